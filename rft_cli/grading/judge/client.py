"""Requests to the endpoint. The openai client retries, waits and parses; this adds limits and fallbacks of judges.

Imported when the first judge opens, because the openai package is an extra.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import httpx2
import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion

from rft_cli.config.schema import JudgeConfig
from rft_cli.grading.judge.endpoint import Endpoint, Reply, error_text, read_reply
from rft_cli.types import GradeError

_T = TypeVar("_T")
_CLOSE_S = 5.0
_LIST_S = 10.0
_SHOWN = 300
_OLD_NAMES = {"max_completion_tokens": "max_tokens"}
_REJECTED_BY = {
    "max_completion_tokens": ("max_completion_tokens",),
    "response_format": ("response_format", "json_schema", "structured output"),
}
"""Parameters that some endpoints don't know, and words of the errors that reject them."""
_REJECTING = (400, 415, 422, 500, 501)
_NO_QUOTA = ("insufficient_quota", "billing_hard_limit_reached")


class JudgeClient:
    """Sends requests from an event loop in its own thread, so that they can be cancelled at any time. Close it.

    `on_retry` is called at each retry. `places`: the limit of requests in flight. `asking`: a lock for each question
    in flight, by its key. `timeout_setting`: what messages call the limit of a request's time.
    """

    timeout_setting = "grader.judge.timeout_s"

    def __init__(self, endpoint: Endpoint, settings: JudgeConfig, on_retry: Callable[[], None]) -> None:
        self.endpoint = endpoint
        self._timeout_s = settings.timeout_s
        self._openai = openai.AsyncOpenAI(
            base_url=endpoint.url,
            api_key=endpoint.key or "none",
            max_retries=settings.retries,
            timeout=settings.timeout_s,
            http_client=_HttpClient(on_retry),
        )
        # Without this the client sends its placeholder for the key.
        self._headers: Any = None if endpoint.key else {"Authorization": openai.Omit()}
        self._unknown: dict[str, set[str]] = {}
        self.places = asyncio.Semaphore(settings.concurrency)
        self.asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._loop = asyncio.new_event_loop()
        # A daemon thread: the process ends even where nobody closes the client.
        self._thread = threading.Thread(target=self._run, name="rft-judge", daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Run the coroutine in the thread; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Cancel all requests, close the connections and end the thread."""
        try:
            self.start(self._end()).result(_CLOSE_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CLOSE_S)

    async def ask(self, request: Mapping[str, Any], retries: int | None = None) -> Reply:
        """The judge's reply to a chat completion request; raises what `complete` raises."""
        return read_reply(request, await self.complete(request, retries), self.endpoint)

    async def complete(self, request: Mapping[str, Any], retries: int | None = None) -> ChatCompletion:
        """The chat completion; raises the openai client's errors when its retries are used up.

        A parameter of `_REJECTED_BY` that the endpoint rejects is not sent to this model again. `retries` overrides the
        settings.
        """
        client = self._openai if retries is None else self._openai.with_options(max_retries=retries)
        unknown = self._unknown.setdefault(request["model"], set())
        while True:
            sent = _without(unknown, request)
            try:
                completion: ChatCompletion = await client.chat.completions.create(
                    **sent, extra_headers=self._headers
                )
            except openai.APIStatusError as error:
                rejected = _rejected_parameter(error.response)
                if rejected is None:
                    raise
                unknown.add(rejected)
            else:
                return completion

    async def complete_text(self, request: Mapping[str, Any]) -> Completion:
        """The completion of a text, without a chat template; raises the openai client's errors."""
        completion: Completion = await self._openai.completions.create(**request, extra_headers=self._headers)
        return completion

    async def models(self) -> list[str]:
        """The names of the models that the endpoint lists; raises the openai client's errors, without a retry."""
        client = self._openai.with_options(max_retries=0, timeout=min(self._timeout_s, _LIST_S))
        listing = await client.models.list(extra_headers=self._headers)
        return [model.id for model in listing.data if isinstance(model.id, str)]

    def failure(self, error: Exception) -> GradeError:
        """The failed grade that an error makes; its message never holds the key."""
        kind, cause = "judge_server", error.__cause__
        if isinstance(error, openai.APITimeoutError):
            kind, message = (
                "judge_timeout",
                f"no answer within {self._timeout_s:g} s ({self.timeout_setting})",
            )
        elif isinstance(error, openai.APIStatusError):
            kind = "judge_rate_limit" if error.status_code == 429 else kind
            message = f"HTTP {error.status_code}: {error_text(self.endpoint.redact(error.response.text))}"
        elif isinstance(cause, NoCompletion):
            message = f"{cause}: {error_text(self.endpoint.redact(cause.body))}"
        elif isinstance(error, openai.APIConnectionError):
            message = f"connection lost: {str(cause or error) or type(cause).__name__}"
        else:
            message = f"{type(error).__name__}: {error}"
        return GradeError(kind, self.endpoint.redact(message)[:_SHOWN])

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _end(self) -> None:
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._openai.close()


class NoCompletion(httpx2.RemoteProtocolError):
    """Status 200 with a `body` that is not a chat completion. The openai client retries it as a lost connection."""

    def __init__(self, problem: str, response: httpx2.Response) -> None:
        super().__init__(problem, request=response.request)
        self.body = response.text


class _HttpClient(openai.DefaultAsyncHttpxClient):
    """Sends the openai client's requests, limits their whole time, and corrects which replies are retried."""

    def __init__(self, on_retry: Callable[[], None]) -> None:
        super().__init__()
        self._on_retry = on_retry

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        if request.headers.get("x-stainless-retry-count", "0") != "0":
            self._on_retry()
        try:
            # httpx limits each read; some servers send a blank now and then while the model works.
            async with asyncio.timeout(request.extensions["timeout"]["read"]):
                response = await super().send(request, **options)
        except TimeoutError:
            raise httpx2.ReadTimeout("late", request=request) from None
        if response.is_success and request.method == "POST":
            _check_completion(response)
        elif is_out_of_quota(response) or _rejected_parameter(response) is not None:
            response.headers["x-should-retry"] = "false"
        return response


def _check_completion(response: httpx2.Response) -> None:
    """Raise NoCompletion where there is no message: gateways send errors of the model server with status 200."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    choices = body.get("choices") if isinstance(body, dict) else None
    if choices == []:
        raise NoCompletion("the reply has no choices", response)
    first = choices[0] if isinstance(choices, list) else None
    whole = isinstance(first, dict) and (
        isinstance(first.get("message"), dict) or isinstance(first.get("text"), str)
    )
    if not whole:
        raise NoCompletion("the reply is not a chat completion", response)


def is_out_of_quota(response: httpx2.Response) -> bool:
    """Whether the account's quota is used up: waiting doesn't help."""
    return response.status_code == 429 and any(code in response.text for code in _NO_QUOTA)


def _rejected_parameter(response: httpx2.Response) -> str | None:
    """The parameter that an error response rejects, if it is one that can be left out."""
    if response.status_code not in _REJECTING or response.request.method != "POST":
        return None
    sent = json.loads(response.request.content)
    for name, words in _REJECTED_BY.items():
        if name in sent and any(word in response.text for word in words):
            return name
    return None


def _without(unknown: set[str], request: Mapping[str, Any]) -> dict[str, Any]:
    """The request without the unknown parameters, or with their older names."""
    renamed = {_OLD_NAMES.get(name) if name in unknown else name: value for name, value in request.items()}
    return {name: value for name, value in renamed.items() if name is not None}
