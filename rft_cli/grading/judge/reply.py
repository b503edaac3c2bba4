"""The few parts of a chat completion that judges need, read without trust in the server."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from rft_cli.grading.judge.faults import BadReply, said_by
from rft_cli.types import GradeError


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that one request read and wrote, as the endpoint counts them."""

    input: int
    output: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What the judge wrote, or why it wrote no verdict; `tokens` None: the endpoint does not say."""

    outcome: str | GradeError
    tokens: Tokens | None


def read_reply(body: str) -> Reply:
    """The reply in the body of an HTTP answer; BadReply if it is no chat completion."""
    try:
        completion = _Completion.model_validate_json(body)
    except ValidationError:
        raise BadReply(f"the answer is no chat completion: {said_by(body)}") from None
    if not completion.choices:
        raise BadReply(f"the answer has no choices: {said_by(body)}")
    usage = completion.usage
    tokens = None if usage is None else Tokens(max(0, usage.prompt_tokens), max(0, usage.completion_tokens))
    return Reply(_outcome(completion.choices[0]), tokens)


def _outcome(choice: _Choice) -> str | GradeError:
    message = choice.message
    if message.refusal:
        return GradeError("judge_refusal", "the judge refused", f"the judge wrote: {message.refusal[:2000]}")
    if choice.finish_reason == "content_filter":
        return GradeError("judge_refusal", "the endpoint's content filter stopped the judge")
    if choice.finish_reason == "length":
        why = "the verdict was cut off: raise max_completions_tokens in the judge's sampling_params"
        return GradeError("judge_parse", why, f"the judge wrote: {(message.content or '')[:2000]}")
    return message.content or ""
