"""What all judges of one grader share: connection, limit of concurrency, cache, counts and budget."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from rft_cli.config.judges import price_table
from rft_cli.config.launcher import world_size_in
from rft_cli.config.schema import JudgeConfig
from rft_cli.errors import RunFailed, UsageError
from rft_cli.grading.judge.cache import Entry, JudgeCache, cache_folder
from rft_cli.grading.judge.client import BACKOFF_S, JudgeClient, Question
from rft_cli.grading.judge.endpoint import find_endpoint
from rft_cli.grading.judge.faults import Fault
from rft_cli.grading.judge.ledger import Ledger, Usage
from rft_cli.grading.judge.loop import LoopThread
from rft_cli.grading.judge.probe import check_model
from rft_cli.grading.judge.reply import Tokens
from rft_cli.grading.judge.verdict import Verdict
from rft_cli.grading.protocol import Closing
from rft_cli.types import GradeError

_NO_TOKENS = Tokens(0, 0)
"""Of a verdict that nobody was asked for."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one question. `text`: what the judge just wrote, if it can be read as a verdict.

    `tokens` are those spent on it, None where the endpoint does not tell.
    """

    outcome: Verdict | GradeError
    seconds: float = 0.0
    text: str | None = None
    tokens: Tokens | None = None


Read = Callable[[str], Verdict | GradeError]


@dataclass(frozen=True, slots=True)
class _Line:
    """The open connection: made on first use, and again in a process that forked off."""

    pid: int
    loop: LoopThread
    client: JudgeClient
    places: asyncio.Semaphore
    asking: dict[str, asyncio.Future[Judged]] = field(default_factory=dict)


class JudgeBook(Closing):
    """Shared by the judges of one grader; the last of them to close closes it too.

    Raises UsageErrors where the settings, the key or the cache folder can't be used. Each of the processes that a
    launcher started (WORLD_SIZE) has a book of its own, with an equal part of the budget. `backoff_s`: the first wait
    before another try.
    """

    def __init__(
        self,
        settings: JudgeConfig,
        *,
        env: Mapping[str, str] | None = None,
        backoff_s: float = BACKOFF_S,
    ) -> None:
        env = os.environ if env is None else env
        self.settings = settings
        self.endpoint = find_endpoint(settings, env)
        self._cache = JudgeCache(cache_folder(settings.cache, env))
        self._cache.open()
        self._prices = price_table(settings)
        self._ledger = Ledger(self._prices, settings.max_cost, settings.max_tokens, world_size_in(env))
        self._backoff_s = backoff_s
        self._line: _Line | None = None
        self._judges = 0
        self._checked: set[str] = set()

    def check(self, model: str) -> None:
        """See that the model can be asked and has the price that the budget needs; UsageError if not."""
        if model in self._checked:
            return
        if self.settings.max_cost is not None and model not in self._prices:
            raise UsageError(
                f"grader.judge.max_cost can't be kept: '{model}' has no price",
                f"add it: --set grader.judge.prices=[{model}=INPUT/OUTPUT] in US dollars for a million tokens",
            )
        line = self._open()
        checking = check_model(line.client, self.endpoint, model, self.settings.timeout_s)
        checked = line.loop.submit(checking).result()
        if checked is not None:
            self._ledger.settle(model, checked.reply.tokens, checked.most, checked.reply.length)
        self._checked.add(model)

    def ask(self, key: str, question: Question, read: Read) -> Future[Judged]:
        """Ask the cache, then the endpoint. `read` makes a verdict of what the judge wrote; only verdicts are kept.

        With a cache, a question that is being asked already is not asked beside it.
        """
        line = self._open()
        return line.loop.submit(self._ask(line, key, question, read))

    def usage_per_model(self) -> dict[str, Usage]:
        """What each model was asked for, checks at the start included, by its name at the endpoint."""
        return dict(self._ledger.usage)

    def count_clamped(self) -> None:
        """Count a verdict whose number lay outside of its range."""
        self._ledger.clamped += 1

    def budget_spent(self) -> RunFailed:
        """The error that ends the job when the budget is spent, with what was spent."""
        return self._ledger.exhausted(keeps_verdicts=self._cache.folder is not None)

    def to_metrics(self) -> dict[str, float]:
        """Counts since the book was made, for a line of metrics.

        `judge_cost` (US dollars) is there where every model that was asked has a price; `NAME/MODEL` are the parts
        of each model, where there are several.
        """
        total = self._ledger.total()
        metrics = {
            "judge_requests": float(total.requests),
            "judge_cache_hits": float(self._ledger.cache_hits),
            "judge_retries": float(self._ledger.retries),
            "judge_clamped": float(self._ledger.clamped),
            "judge_input_tokens": float(total.input_tokens),
            "judge_output_tokens": float(total.output_tokens),
        }
        if total.cost is not None:
            metrics["judge_cost"] = total.cost
        models = sorted(self.usage_per_model().items())
        for model, usage in models if len(models) > 1 else ():
            metrics[f"judge_input_tokens/{model}"] = float(usage.input_tokens)
            metrics[f"judge_output_tokens/{model}"] = float(usage.output_tokens)
            if usage.cost is not None:
                metrics[f"judge_cost/{model}"] = usage.cost
        return metrics

    def to_json(self) -> dict[str, Any]:
        """The same for a report: totals, and the usage of each model."""
        return {
            **self._ledger.total().to_json(),
            "cache_hits": self._ledger.cache_hits,
            "retries": self._ledger.retries,
            "clamped": self._ledger.clamped,
            "models": {model: usage.to_json() for model, usage in sorted(self.usage_per_model().items())},
        }

    def told(self) -> str:
        """The same in one line for people."""
        ledger = self._ledger
        others = (
            (ledger.cache_hits, "from the cache"),
            (ledger.retries, "retry" if ledger.retries == 1 else "retries"),
            (ledger.clamped, "clamped"),
        )
        return ", ".join([ledger.spent(), *(f"{count:,} {what}" for count, what in others if count)])

    def join(self) -> None:
        """Count one judge more that uses the book."""
        self._judges += 1

    def leave(self) -> None:
        """Count one judge less; without judges the book closes."""
        self._judges -= 1
        if self._judges <= 0:
            self.close()

    def close(self) -> None:
        """Cancel what is being asked and end the thread; safe to call twice. Counts can still be read."""
        line, self._line = self._line, None
        # The thread of another process does not run here.
        if line is not None and line.pid == os.getpid():
            line.loop.close(line.client.close())

    async def _ask(self, line: _Line, key: str, question: Question, read: Read) -> Judged:
        if self._cache.folder is None:
            return await self._ask_endpoint(line, question, read)
        entry = self._cache.read(key)
        verdict = None if entry is None else read(entry.text)
        if isinstance(verdict, Verdict):
            self._ledger.cache_hits += 1
            return Judged(verdict, tokens=_NO_TOKENS)
        while (asked := line.asking.get(key)) is not None:
            await asyncio.wait([asked])
            if not asked.cancelled():
                self._ledger.cache_hits += 1
                return replace(asked.result(), tokens=_NO_TOKENS)
        line.asking[key] = asyncio.get_running_loop().create_future()
        try:
            judged = await self._ask_endpoint(line, question, read)
            line.asking[key].set_result(judged)
        finally:
            line.asking.pop(key).cancel()
        if judged.text is not None:
            self._cache.write(key, Entry(judged.text))
        return judged

    async def _ask_endpoint(self, line: _Line, question: Question, read: Read) -> Judged:
        most = question.most()
        async with line.places, self._ledger.admit(question.model, most) as admitted:
            if not admitted:
                return Judged(GradeError("judge_budget", "the judge's budget is spent"))
            started = time.monotonic()
            reply = await line.client.ask(question, self.settings.retries)
            seconds = time.monotonic() - started
            if isinstance(reply, Fault):
                return Judged(reply.grade_error(), seconds)
            self._ledger.settle(question.model, reply.tokens, most, reply.length)
            if isinstance(reply.outcome, GradeError):
                return Judged(reply.outcome, seconds, None, reply.tokens)
            verdict = read(reply.outcome)
            text = reply.outcome if isinstance(verdict, Verdict) else None
            return Judged(verdict, seconds, text, reply.tokens)

    def _open(self) -> _Line:
        if self._line is None or self._line.pid != os.getpid():
            client = JudgeClient(
                self.endpoint,
                timeout_s=self.settings.timeout_s,
                backoff_s=self._backoff_s,
                on_retry=self._count_retry,
            )
            loop = LoopThread("rft-judge")
            self._line = _Line(os.getpid(), loop, client, asyncio.Semaphore(self.settings.concurrency))
        return self._line

    def _count_retry(self) -> None:
        self._ledger.retries += 1
