"""What judges were asked, read, wrote and cost; and the budget, which every reply is charged to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rft_cli.config.judges import NONE, price_table
from rft_cli.config.schema import JudgeConfig
from rft_cli.config.suggest import counted
from rft_cli.errors import RunFailed
from rft_cli.grading.judge.endpoint import Reply

_MILLION = 1e6


@dataclass(slots=True)
class ModelUsage:
    """What one model was asked for. `cost` in US dollars, None without a price.

    `unmetered` requests are those whose tokens the endpoint did not count: they are in no count, but in the budget.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    unmetered: int = 0

    def to_metrics(self) -> dict[str, float]:
        tokens = {"judge_input_tokens": self.input_tokens, "judge_output_tokens": self.output_tokens}
        return {**tokens, **({} if self.cost is None else {"judge_cost": self.cost})}


class JudgeUsage:
    """Counts, and this process's part of the budget, one of `processes` equal ones.

    One thread counts; any may read. `models`: what each was asked for, checks at the start included.
    """

    def __init__(self, settings: JudgeConfig, processes: int = 1) -> None:
        self.models: dict[str, ModelUsage] = {}
        self.cache_hits = 0
        self.retries = 0
        self.clamped = 0
        self._prices = price_table(settings)
        self._processes = processes
        self._caches = settings.cache.lower() != NONE
        self._limits = {
            f"grader.judge.{name}": limit
            for name in ("max_cost", "max_tokens")
            if (limit := getattr(settings, name)) is not None
        }
        # Charged to the budget. A reply without counts is charged a token for each byte, `_assumed` in all.
        self._spent = {"grader.judge.max_cost": 0.0, "grader.judge.max_tokens": 0.0}
        self._assumed = 0

    def charge(self, model: str, reply: Reply) -> None:
        """Count one reply."""
        usage = self.models.setdefault(model, ModelUsage())
        tokens, price = reply.tokens or reply.size, self._prices.get(model)
        cost = (tokens.read * price.input + tokens.written * price.output) / _MILLION if price else 0.0
        self._spent["grader.judge.max_cost"] += cost
        self._spent["grader.judge.max_tokens"] += sum(tokens)
        usage.requests += 1
        if reply.tokens is None:
            usage.unmetered += 1
            self._assumed += sum(tokens)
            return
        usage.input_tokens += tokens.read
        usage.output_tokens += tokens.written
        if price is not None:
            usage.cost = (usage.cost or 0.0) + cost

    def count_retry(self) -> None:
        """Count one retry of the client."""
        self.retries += 1

    def is_budget_spent(self) -> bool:
        """Whether the replies until now have reached a limit."""
        return any(self._spent[name] >= limit / self._processes for name, limit in self._limits.items())

    def budget_spent(self) -> RunFailed:
        """The error that ends the job, with what was spent."""
        share = f" by one of {self._processes} processes" if self._processes > 1 else ""
        fix = f"raise {' or '.join(self._limits)}, or go on with the same budget anew"
        if self._caches:
            fix += ": verdicts are kept in the cache, so only the rest is paid for"
        return RunFailed(f"the judge's budget is spent: {self._describe_requests()}{share}", fix)

    def total(self) -> ModelUsage:
        """All models together; its cost is None if one of them has none."""
        models = list(self.models.values())
        costs = [usage.cost for usage in models]
        return ModelUsage(
            sum(usage.requests for usage in models),
            sum(usage.input_tokens for usage in models),
            sum(usage.output_tokens for usage in models),
            sum(cost for cost in costs if cost is not None) if None not in costs else None,
            sum(usage.unmetered for usage in models),
        )

    def to_metrics(self) -> dict[str, float]:
        """Counts until now, for a line of metrics.

        `judge_cost` (US dollars) is there where every model that was asked has a price; `NAME/MODEL` are the parts
        of each model, where there are several.
        """
        total = self.total()
        metrics = {
            "judge_requests": total.requests,
            "judge_cache_hits": self.cache_hits,
            "judge_retries": self.retries,
            "judge_clamped": self.clamped,
            **total.to_metrics(),
        }
        for model, usage in sorted(self.models.items()) if len(self.models) > 1 else ():
            metrics |= {f"{name}/{model}": value for name, value in usage.to_metrics().items()}
        return {name: float(value) for name, value in metrics.items()}

    def to_json(self) -> dict[str, Any]:
        """The same for a report: totals, and the usage of each model."""
        return {
            **asdict(self.total()),
            "cache_hits": self.cache_hits,
            "retries": self.retries,
            "clamped": self.clamped,
            "models": {model: asdict(usage) for model, usage in sorted(self.models.items())},
        }

    def describe(self) -> str:
        """The same in one line for people."""
        others = (
            (self.cache_hits, "from the cache"),
            (self.retries, "retry" if self.retries == 1 else "retries"),
            (self.clamped, "clamped"),
        )
        return ", ".join(
            [self._describe_requests(), *(f"{count:,} {what}" for count, what in others if count)]
        )

    def _describe_requests(self) -> str:
        total = self.total()
        text = f"{counted(total.requests, 'request')}, {total.input_tokens:,} tokens read"
        text += f", {total.output_tokens:,} written"
        if self._prices and total.cost is not None:
            text += f", {total.cost:.4f} US dollars"
        if total.unmetered:
            assumed = f", taken as {self._assumed:,} tokens" if self._limits else ""
            text += f", {total.unmetered:,} without a count of tokens{assumed}"
        return text
