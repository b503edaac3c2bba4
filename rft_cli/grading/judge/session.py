"""What all judges of one grader share: connection, concurrency limit, cache, counts and budget."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from rft_cli.config.judges import price_table
from rft_cli.config.launcher import world_size_in
from rft_cli.config.schema import JudgeConfig
from rft_cli.errors import UsageError
from rft_cli.grading.judge.cache import JudgeCache, cache_folder
from rft_cli.grading.judge.endpoint import find_endpoint
from rft_cli.grading.judge.usage import JudgeUsage
from rft_cli.grading.judge.verdict import JudgeVerdict, read_verdict
from rft_cli.grading.openai.schema import JudgeModel
from rft_cli.grading.protocol import Closing
from rft_cli.types import Grade, GradeError, TokenUse

# Needs the openai package, an extra.
if TYPE_CHECKING:
    from rft_cli.grading.judge.client import JudgeClient


BUDGET = "judge_budget"
"""The error of a grade that was not asked for, because the budget is spent."""


class JudgeSession(Closing):
    """Shared by the judges of one grader. Connects at the first request, and again after it was closed.

    Raises UsageErrors where the settings, the key or the cache folder can't be used. Each process of a launcher
    (WORLD_SIZE) has its own session with an equal part of the budget. `usage`: counts and costs.
    """

    def __init__(self, settings: JudgeConfig, *, env: Mapping[str, str] | None = None) -> None:
        env = os.environ if env is None else env
        self.settings = settings
        self.endpoint = find_endpoint(settings, env)
        self.usage = JudgeUsage(settings, world_size_in(env))
        folder = cache_folder(settings.cache, env)
        self._cache = None if folder is None else JudgeCache(folder)
        self._client: JudgeClient | None = None
        self._checked: set[str] = set()

    def check(self, model: str) -> None:
        """Check that the model can be asked and has the price that the budget needs; UsageError if not."""
        if model in self._checked:
            return
        if self.settings.max_cost is not None and model not in price_table(self.settings):
            raise UsageError(
                f"grader.judge.max_cost can't be kept: '{model}' has no price",
                f"add it: --set grader.judge.prices=[{model}=INPUT/OUTPUT] in US dollars for a million tokens",
            )
        client = self._open()
        from rft_cli.grading.judge.check import check_model

        try:
            reply = client.start(check_model(client, model)).result()
        except BaseException:
            self.close()
            raise
        if reply is not None:
            self.usage.charge(model, reply)
        self._checked.add(model)

    def ask(self, key: str, request: Mapping[str, Any], spec: JudgeModel) -> Future[Grade]:
        """The grade from the cache, else from the endpoint; only verdicts that can be read are cached.

        With a cache, a question that is in flight already is not asked again.
        """
        client = self._open()
        return client.start(self._ask(client, key, request, spec))

    def close(self) -> None:
        """Cancel requests and end the thread; safe to call twice. Counts stay readable."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _open(self) -> JudgeClient:
        if self._client is None:
            try:
                from rft_cli.grading.judge.client import JudgeClient
            except ImportError:
                fix = "pip install 'rft-cli[judge]'"
                raise UsageError("judges need the openai package, which is not installed", fix) from None
            self._client = JudgeClient(self.endpoint, self.settings, self.usage.count_retry)
        return self._client

    async def _ask(
        self, client: JudgeClient, key: str, request: Mapping[str, Any], spec: JudgeModel
    ) -> Grade:
        if self._cache is None:
            return await self._ask_endpoint(client, key, request, spec)
        async with client.asking.setdefault(key, asyncio.Lock()):
            text = self._cache.read(key)
            verdict = None if text is None else read_verdict(spec, text)
            if not isinstance(verdict, JudgeVerdict):
                return await self._ask_endpoint(client, key, request, spec)
            self.usage.cache_hits += 1
            return self._grade(verdict, 0.0, {request["model"]: TokenUse(0, 0)})

    async def _ask_endpoint(
        self, client: JudgeClient, key: str, request: Mapping[str, Any], spec: JudgeModel
    ) -> Grade:
        model = request["model"]
        async with client.places:
            if self.usage.is_budget_spent():
                return Grade("failed", error=GradeError(BUDGET, "the judge's budget is spent"))
            started = time.monotonic()
            try:
                reply = await client.ask(request)
            except Exception as error:
                return self._grade(client.failure(error), time.monotonic() - started, {model: None})
            seconds = time.monotonic() - started
            self.usage.charge(model, reply)
        if isinstance(reply.outcome, GradeError):
            return self._grade(reply.outcome, seconds, {model: reply.tokens})
        verdict = read_verdict(spec, reply.outcome)
        if isinstance(verdict, JudgeVerdict) and self._cache is not None:
            self._cache.write(key, reply.outcome)
        return self._grade(verdict, seconds, {model: reply.tokens})

    def _grade(
        self, outcome: JudgeVerdict | GradeError, seconds: float, tokens: Mapping[str, TokenUse | None]
    ) -> Grade:
        if isinstance(outcome, GradeError):
            return Grade("failed", error=outcome, seconds=seconds, usage=tokens)
        self.usage.clamped += outcome.clamped
        return Grade("graded", outcome.reward, seconds=seconds, usage=tokens)
