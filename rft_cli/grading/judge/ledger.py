"""What judges were asked, read, wrote and cost; and the budget, which lets a request go or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from rft_cli.config.judges import Price
from rft_cli.errors import RunFailed
from rft_cli.grading.judge.reply import Tokens

_MILLION = 1e6


@dataclass(slots=True)
class Usage:
    """What one model was asked for. `cost` in US dollars, None without a price."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    unmetered: int = 0
    """Requests whose tokens the endpoint did not say."""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost": self.cost,
            "unmetered": self.unmetered,
        }


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
        self._in_flight = 0
        self._settled = asyncio.Event()

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[bool]:
        """Hold a place for one request; False where the budget has none left.

        A request goes out while what is spent, with what those in flight will cost at the mean so far, stays within
        the limit; near the limit they go one by one. So it is passed by one request, or by a first wave whose cost
        nobody knows.
        """
        while self._in_flight and not self._has_room():
            await self._settled.wait()
        if self.is_spent():
            yield False
            return
        self._in_flight += 1
        try:
            yield True
        finally:
            self._in_flight -= 1
            self._settled.set()
            self._settled = asyncio.Event()

    def settle(self, model: str, tokens: Tokens | None) -> None:
        """Count one answered request."""
        usage = self.usage.setdefault(model, Usage())
        usage.requests += 1
        if tokens is None:
            usage.unmetered += 1
            return
        usage.input_tokens += tokens.input
        usage.output_tokens += tokens.output
        price = self._prices.get(model)
        if price is not None:
            cost = (tokens.input * price.input + tokens.output * price.output) / _MILLION
            usage.cost = (usage.cost or 0.0) + cost

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
        )

    def is_spent(self) -> bool:
        """Whether the budget ends here: all of it is used, or the endpoint does not say how much is."""
        return any(used >= limit for used, limit in self._limits()) or self._is_blind()

    def spent(self) -> str:
        """All that was asked and what it cost, for people."""
        total = self.total()
        told = f"{total.requests:,} requests, {total.input_tokens:,} tokens read, {total.output_tokens:,} written"
        return told if total.cost is None else f"{told}, {total.cost:.4f} US dollars"

    def exhausted(self, keeps_verdicts: bool) -> RunFailed:
        """The error that ends the job, with what was spent. `keeps_verdicts`: whether there is a cache of them."""
        spent = self.spent() + (f" by one of {self._processes} processes" if self._processes > 1 else "")
        if self._is_blind():
            what = "the judge's endpoint does not say how many tokens it used, so no budget can be kept"
            fix = "unset grader.judge.max_cost and grader.judge.max_tokens, or use an endpoint that reports usage"
            return RunFailed(f"{what} ({spent})", fix)
        fix = f"raise {' or '.join(self._limit_names())}, or go on with the same budget anew"
        if keeps_verdicts:
            fix += ": verdicts are kept in the cache, so only the rest is paid for"
        return RunFailed(f"the judge's budget is spent: {spent}", fix)

    def _limits(self) -> list[tuple[float, float]]:
        """(used, limit) of each limit that is set."""
        total = self.total()
        limits = []
        if self._max_cost is not None:
            limits.append((total.cost or 0.0, self._max_cost))
        if self._max_tokens is not None:
            limits.append((float(total.tokens), self._max_tokens))
        return limits

    def _limit_names(self) -> list[str]:
        names = {"grader.judge.max_cost": self._max_cost, "grader.judge.max_tokens": self._max_tokens}
        return [name for name, limit in names.items() if limit is not None]

    def _is_blind(self) -> bool:
        return bool(self._limit_names()) and any(usage.unmetered for usage in self.usage.values())

    def _has_room(self) -> bool:
        """Whether one request more fits, each in flight taken at the mean so far."""
        answered = max(1, sum(usage.requests for usage in self.usage.values()))
        expected = self._in_flight + 1
        return all(used + expected * used / answered <= limit for used, limit in self._limits())
