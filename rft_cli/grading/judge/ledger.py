"""What judges were asked, read, wrote and cost; and the budget, which lets a request go or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from rft_cli.config.judges import Price
from rft_cli.config.suggest import counted
from rft_cli.errors import RunFailed
from rft_cli.grading.judge.bounds import Most
from rft_cli.grading.judge.reply import Tokens

_MILLION = 1e6
_LOWER = "shorten what the judge is sent (each byte can be a token) or its max_completions_tokens, "


@dataclass(slots=True)
class Usage:
    """What one model was asked for. `cost` in US dollars, None without a price.

    `unmetered` requests are those whose tokens the endpoint did not say. They are in no count, but in the budget, as
    `assumed_tokens` and `assumed_cost`: the most that they can be.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    unmetered: int = 0
    assumed_tokens: int = 0
    assumed_cost: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost": self.cost,
            "unmetered": self.unmetered,
        }


class _Amount(NamedTuple):
    """Tokens, read and written together, and US dollars."""

    tokens: float
    cost: float


class Ledger:
    """Counts by model, and this process's part of the budget, one of `processes` equal ones.

    Belongs to one event loop; its counts can be read from any thread.
    """

    def __init__(
        self, prices: Mapping[str, Price], max_cost: float | None, max_tokens: int | None, processes: int = 1
    ) -> None:
        self.usage: dict[str, Usage] = {}
        self.cache_hits = 0
        self.retries = 0
        self.clamped = 0
        self._prices = prices
        self._processes = processes
        self._max_cost = None if max_cost is None else max_cost / processes
        self._max_tokens = None if max_tokens is None else max_tokens / processes
        self._held: list[_Amount] = []
        self._longest: dict[str, int] = {}
        self._refused: _Amount | None = None
        self._settled = asyncio.Event()

    @asynccontextmanager
    async def admit(self, model: str, most: Most) -> AsyncIterator[bool]:
        """Hold the most that one request can take; False where the budget has not that much left.

        What is spent and what is held never pass the budget together. Where the length of the reply has no limit, it
        is taken to be that of the longest so far; before there is one, a request goes alone. After one refusal all are
        refused: the job ends.
        """
        while self._held and not (self._is_known(model, most) and self._fits(self._most(model, most))):
            await self._settled.wait()
        amount = self._most(model, most)
        if self._refused is not None or not self._fits(amount):
            self._refused = self._refused or amount
            yield False
            return
        self._held.append(amount)
        try:
            yield True
        finally:
            self._held.remove(amount)
            self._settled.set()
            self._settled = asyncio.Event()

    def settle(self, model: str, tokens: Tokens | None, most: Most, written: int) -> None:
        """Count one answered request. `written`: bytes of the reply, for an endpoint that does not say its tokens."""
        usage = self.usage.setdefault(model, Usage())
        usage.requests += 1
        if tokens is None:
            output = written if most.output is None else most.output
            usage.unmetered += 1
            usage.assumed_tokens += most.input + output
            usage.assumed_cost += self._cost(model, most.input, output) or 0.0
        else:
            output = tokens.output
            usage.input_tokens += tokens.input
            usage.output_tokens += tokens.output
            cost = self._cost(model, tokens.input, tokens.output)
            usage.cost = usage.cost if cost is None else (usage.cost or 0.0) + cost
        if most.output is None:
            self._longest[model] = max(self._longest.get(model, 0), output)

    def total(self) -> Usage:
        """All models together; its cost is None if one of them has no price."""
        models = list(self.usage.values())
        costs = [usage.cost for usage in models]
        return Usage(
            sum(usage.requests for usage in models),
            sum(usage.input_tokens for usage in models),
            sum(usage.output_tokens for usage in models),
            sum(cost for cost in costs if cost is not None) if None not in costs else None,
            sum(usage.unmetered for usage in models),
            sum(usage.assumed_tokens for usage in models),
            sum(usage.assumed_cost for usage in models),
        )

    def spent(self) -> str:
        """All that was asked and what it cost, for people."""
        total = self.total()
        parts = [
            counted(total.requests, "request"),
            f"{total.input_tokens:,} tokens read",
            f"{total.output_tokens:,} written",
        ]
        if self._prices and total.cost is not None:
            parts.append(f"{total.cost:.4f} US dollars")
        if total.unmetered:
            assumed = f", taken as {total.assumed_tokens:,} tokens" if self._limits() else ""
            parts.append(f"{total.unmetered:,} without a count of tokens{assumed}")
        return ", ".join(parts)

    def exhausted(self, keeps_verdicts: bool) -> RunFailed:
        """The error that ends the job, with what was spent. `keeps_verdicts`: whether there is a cache of them."""
        spent = self.spent() + (f" by one of {self._processes} processes" if self._processes > 1 else "")
        fix = f"raise {' or '.join(self._limits())}, {_LOWER}or go on with the same budget anew"
        if keeps_verdicts:
            fix += ": verdicts are kept in the cache, so only the rest is paid for"
        return RunFailed(f"the judge's budget is spent: {spent}{self._why()}", fix)

    def _why(self) -> str:
        """What the request that was refused could take, and what is left, by the limit that it would pass."""
        used = self._used()
        if self._refused is None:
            return ""
        if self._max_tokens is not None and used.tokens + self._refused.tokens > self._max_tokens:
            left = max(0.0, self._max_tokens - used.tokens)
            return f"; the next can take {self._refused.tokens:,.0f} tokens, and {left:,.0f} are left"
        left = max(0.0, (self._max_cost or 0.0) - used.cost)
        return f"; the next can cost {self._refused.cost:.4f}, and {left:.4f} are left"

    def _limits(self) -> list[str]:
        limits = {"grader.judge.max_cost": self._max_cost, "grader.judge.max_tokens": self._max_tokens}
        return [name for name, limit in limits.items() if limit is not None]

    def _used(self) -> _Amount:
        total = self.total()
        tokens = total.input_tokens + total.output_tokens + total.assumed_tokens
        return _Amount(tokens, (total.cost or 0.0) + total.assumed_cost)

    def _is_known(self, model: str, most: Most) -> bool:
        return most.output is not None or model in self._longest or not self._limits()

    def _most(self, model: str, most: Most) -> _Amount:
        output = self._longest.get(model, 0) if most.output is None else most.output
        return _Amount(most.input + output, self._cost(model, most.input, output) or 0.0)

    def _cost(self, model: str, read: int, written: int) -> float | None:
        """US dollars; None for a model without a price."""
        price = self._prices.get(model)
        return None if price is None else (read * price.input + written * price.output) / _MILLION

    def _fits(self, amount: _Amount) -> bool:
        used = self._used()
        tokens = used.tokens + sum(held.tokens for held in self._held) + amount.tokens
        cost = used.cost + sum(held.cost for held in self._held) + amount.cost
        within_tokens = self._max_tokens is None or tokens <= self._max_tokens
        return within_tokens and (self._max_cost is None or cost <= self._max_cost)
