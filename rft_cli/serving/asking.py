"""Asks an OpenAI-compatible endpoint for a completion of each row.

The openai client retries, waits and parses, as it does for judges. Imported when an endpoint is asked, because the
package is an extra.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from rft_cli.config.schema import JudgeConfig
from rft_cli.errors import RunFailed, UsageError, UsageErrors
from rft_cli.grading.judge.check import Wording, check_model
from rft_cli.grading.judge.client import JudgeClient
from rft_cli.grading.judge.endpoint import OFFICIAL, Endpoint
from rft_cli.serving.model import RequestDefaults
from rft_cli.serving.requests import merge_system
from rft_cli.types import Example, spoken

_WORDS = Wording("the endpoint", "--endpoint", "--api-key-env", "--model")
_SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Asking:
    """How rows are asked: the endpoint's model, and the settings of sampling.

    `as_text`: prompts that are texts stay as they are, without a chat template. `failure_rate`: the share of rows
    without a completion above which asking ends.
    """

    endpoint: Endpoint
    model: str
    sampling: RequestDefaults
    as_text: bool = False
    concurrency: int = 8
    timeout_s: float = 120.0
    retries: int = 4
    failure_rate: float = 0.1


@dataclass(frozen=True, slots=True)
class EndpointReply:
    """What the endpoint wrote for one row; `error` says why there is nothing. `tokens`: as it counts them, else 0."""

    text: str = ""
    tokens: int = 0
    truncated: bool = False
    error: str | None = None


class _EndpointClient(JudgeClient):
    timeout_setting = "--timeout"


def ask_rows(
    asking: Asking, examples: Sequence[Example], on_progress: Callable[[int, int], None]
) -> list[EndpointReply]:
    """What was received for each of the rows, in order, after one check that the model is there.

    Raises UsageError where the endpoint can't be asked or a row is none that it can be asked, RunFailed where too many
    requests fail.
    """
    requests = [_request(asking, example) for example in _askable(examples)]
    settings = JudgeConfig(concurrency=asking.concurrency, retries=asking.retries, timeout_s=asking.timeout_s)
    with closing(_EndpointClient(asking.endpoint, settings, lambda: None)) as client:
        client.start(check_model(client, asking.model, _WORDS)).result()
        futures = [client.start(_receive(client, request)) for request in requests]
        most = int(asking.failure_rate * len(futures))
        _wait(futures, most, asking, on_progress)
        return [future.result() for future in futures]


def _askable(examples: Sequence[Example]) -> Sequence[Example]:
    begun = [
        UsageError(
            f"{example.source}: the prompt has the beginning of the answer, which no chat endpoint goes on from",
            "drop the last assistant message of these rows",
        )
        for example in examples
        if example.prefix
    ]
    if begun:
        raise UsageErrors(begun[:_SHOWN_ROWS])
    return examples


def _request(asking: Asking, example: Example) -> dict[str, Any]:
    chosen = asking.sampling
    request: dict[str, Any] = {
        "model": asking.model,
        "temperature": chosen.temperature,
        "top_p": chosen.top_p,
    }
    if asking.endpoint.url.startswith(OFFICIAL):
        # 1 is the default there, and some of its models refuse the fields; other servers have other defaults.
        request = {name: value for name, value in request.items() if value != 1}
    if asking.as_text and isinstance(example.prompt, str):
        limit = {} if chosen.max_tokens is None else {"max_tokens": chosen.max_tokens}
        return {**request, **limit, "prompt": example.prompt}
    if chosen.max_tokens is not None:
        request["max_completion_tokens"] = chosen.max_tokens
    messages = [dict(message) for message in example.conversation()]
    request["messages"] = merge_system(messages) if chosen.merges_system else messages
    if example.tools is not None:
        request["tools"] = [dict(tool) for tool in example.tools]
    if chosen.template:
        request["extra_body"] = {"chat_template_kwargs": dict(chosen.template)}
    return request


async def _receive(client: JudgeClient, request: Mapping[str, Any]) -> EndpointReply:
    async with client.places:
        try:
            if "prompt" in request:
                text_reply = await client.complete_text(request)
                return _read(text_reply.choices[0].text, text_reply)
            reply = await client.complete(request)
        except Exception as error:
            return EndpointReply(error=client.failure(error).message)
    message = reply.choices[0].message
    if message.refusal:
        return EndpointReply(error=f"the model refused: {message.refusal[:200]}")
    calls = [call.to_dict() for call in message.tool_calls or ()]
    said: Any = {
        "role": "assistant",
        "content": message.content or "",
        **({"tool_calls": calls} if calls else {}),
    }
    return _read(spoken(said), reply)


def _read(text: str, reply: Any) -> EndpointReply:
    tokens = getattr(reply.usage, "completion_tokens", None)
    counted = tokens if isinstance(tokens, int) and tokens >= 0 else 0
    return EndpointReply(text, counted, reply.choices[0].finish_reason == "length")


def _wait(
    futures: Sequence[Future[EndpointReply]],
    most: int,
    asking: Asking,
    on_progress: Callable[[int, int], None],
) -> None:
    """Return once all are there; RunFailed, with the others cancelled, where more than `most` have failed."""
    failed: list[str] = []
    try:
        for done, future in enumerate(as_completed(futures), 1):
            error = future.result().error
            if error is not None:
                failed.append(error)
                if len(failed) > most:
                    raise RunFailed(
                        f"the endpoint {asking.endpoint.url} failed for {len(failed)} of the first {done} rows: "
                        f"{failed[0]}",
                        "see its log; fewer requests at a time: --concurrency 1; more time: --timeout SECONDS",
                    )
            on_progress(done, len(futures))
    except BaseException:
        for future in futures:
            future.cancel()
        raise
