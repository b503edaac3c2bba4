"""Requests to the endpoint: tries, waits, and what to leave out where an endpoint does not know it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rft_cli.errors import UsageError
from rft_cli.grading.judge.bounds import Most, most_tokens
from rft_cli.grading.judge.endpoint import Endpoint
from rft_cli.grading.judge.faults import Fault, fault_of
from rft_cli.grading.judge.reply import Reply, read_reply
from rft_cli.types import Message

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BACKOFF_S = 0.5
"""The first wait; each further one is twice as long, less up to half of it by chance."""
_LONGEST_WAIT_S = 30.0
_LONGEST_RETRY_AFTER_S = 120.0
"""A server that asks for a longer wait is not waited for."""
_REJECTING = (400, 415, 422, 500, 501)
"""With these an endpoint turns down a parameter that it does not know."""
_FORMAT_WORDS = ("response_format", "json_schema", "structured output")


@dataclass(frozen=True, slots=True)
class Question:
    """One request: who is asked what, how it is sampled, and the JSON schema of the verdict (None: none)."""

    model: str
    messages: Sequence[Message]
    parameters: Mapping[str, Any]
    response_format: Mapping[str, Any] | None

    def most(self) -> Most:
        """The most tokens that it can take."""
        return most_tokens(self.messages, self.parameters, self.response_format)


@dataclass(slots=True)
class _Manners:
    """What was learnt of one model's endpoint, so that it is asked in the wrong way only at first."""

    response_format: bool = True
    old_length_name: bool = False


class JudgeClient:
    """Asks the endpoint, with further tries. Belongs to one event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float,
        backoff_s: float = BACKOFF_S,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._openai = _connect(endpoint, timeout_s)
        self._headers = _headers(endpoint)
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._backoff_s = backoff_s
        self._on_retry = on_retry
        self._manners: dict[str, _Manners] = {}
        self._not_before = 0.0
        # A generator of its own: waits must not shift the random numbers of training.
        self._random = random.Random()

    async def ask(self, question: Question, retries: int) -> Reply | Fault:
        """The reply, or the fault of the last of `retries` + 1 tries."""
        tries = 0
        while True:
            await self._hold()
            # As it is sent: others in flight may learn more before this one is answered.
            sent = replace(self._manners.setdefault(question.model, _Manners()))
            outcome = await self._try(question, sent)
            if isinstance(outcome, Reply):
                return outcome
            if self._learn(question, sent, outcome):
                continue
            wait = self._wait(outcome, tries)
            if wait is None or tries >= retries:
                return outcome
            tries += 1
            self._on_retry()
            if outcome.wait_s:
                # The limit is the account's: whoever asks now would only be turned away too.
                self._not_before = max(self._not_before, asyncio.get_running_loop().time() + wait)
            else:
                await asyncio.sleep(wait)

    async def models(self, timeout_s: float) -> list[str] | Fault:
        """The names of the models that the endpoint lists; empty where the list can't be read."""
        try:
            async with asyncio.timeout(timeout_s):
                listing = await self._openai.models.list(extra_headers=self._headers)
            return [model.id for model in listing.data if isinstance(model.id, str)]
        except Exception as error:
            fault = fault_of(error, self._endpoint, timeout_s)
            return fault if not fault.connected else []

    async def close(self) -> None:
        """Close the connections."""
        await self._openai.close()

    async def _hold(self) -> None:
        """Wait until the time that a server last asked for."""
        while (left := self._not_before - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(left)

    async def _try(self, question: Question, manners: _Manners) -> Reply | Fault:
        request: dict[str, Any] = {
            "model": question.model,
            "messages": list(question.messages),
            "extra_headers": self._headers,
            **question.parameters,
        }
        if question.response_format is not None and manners.response_format:
            request["response_format"] = question.response_format
        if manners.old_length_name and "max_completion_tokens" in request:
            request["max_tokens"] = request.pop("max_completion_tokens")
        try:
            # The client's own limit is for each read; this one ends a server that sends a byte now and then.
            async with asyncio.timeout(self._timeout_s):
                answer = await self._openai.chat.completions.with_raw_response.create(**request)
            return read_reply(self._endpoint.redact(answer.text))
        except Exception as error:
            return fault_of(error, self._endpoint, self._timeout_s)

    def _learn(self, question: Question, sent: _Manners, fault: Fault) -> bool:
        """Whether the fault says what to leave out, which this request did not leave out."""
        if fault.status not in _REJECTING:
            return False
        manners = self._manners[question.model]
        if "max_completion_tokens" in fault.body and "max_completion_tokens" in question.parameters:
            # The old name means the same, so nothing is lost.
            manners.old_length_name = True
            return not sent.old_length_name
        if question.response_format is not None and any(word in fault.body for word in _FORMAT_WORDS):
            # The form of the verdict is said in words too.
            manners.response_format = False
            return sent.response_format
        return False

    def _wait(self, fault: Fault, tries: int) -> float | None:
        """Seconds to wait before the next try, None where no try would help."""
        if not fault.retry:
            return None
        if fault.wait_s:
            return fault.wait_s if fault.wait_s <= _LONGEST_RETRY_AFTER_S else None
        wait: float = min(self._backoff_s * 2.0 ** min(tries, 30), _LONGEST_WAIT_S)
        return wait * self._random.uniform(0.5, 1.0)


def _connect(endpoint: Endpoint, timeout_s: float) -> AsyncOpenAI:
    try:
        import openai
    except ImportError:
        fix = "pip install 'rft-cli[judge]'"
        raise UsageError("judges need the openai package, which is not installed", fix) from None
    return openai.AsyncOpenAI(
        base_url=endpoint.url,
        api_key=endpoint.key or "none",
        max_retries=0,
        timeout=timeout_s,
    )


def _headers(endpoint: Endpoint) -> Any:
    """Headers beside the client's own. Without a key none is sent: the client wants that said with each request."""
    from openai import Omit

    return {"Authorization": Omit()} if endpoint.key is None else None
