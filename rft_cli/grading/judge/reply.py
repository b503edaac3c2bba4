"""The few parts of a chat completion that judges need, read without trust in the server.

What a verdict can be read without must not lose it: `usage` may be missing or odd, and text may come as parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rft_cli.grading.judge.faults import BadReply, said_by
from rft_cli.types import GradeError

_SHOWN = 2000
_MOST_TOKENS = 10**12
_OF_TEXT = (None, "text", "output_text")
"""Types of parts that are what the judge says; others are what it thinks."""
_DIGITS = re.compile(r"\d{1,12}")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that one request read and wrote, as the endpoint counts them."""

    input: int
    output: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What the judge wrote, or why it wrote no verdict; `tokens` None: the endpoint does not say.

    `length` is that of what it wrote, in bytes.
    """

    outcome: str | GradeError
    tokens: Tokens | None
    length: int


def read_reply(body: str) -> Reply:
    """The reply in the body of an HTTP answer; BadReply if it is no chat completion."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(choices, list):
        raise BadReply(f"the answer is no chat completion: {said_by(body)}")
    if not choices:
        raise BadReply(f"the answer has no choices: {said_by(body)}")
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    if not isinstance(message, dict):
        raise BadReply(f"the answer is no chat completion: {said_by(body)}")
    text, refusal = _text(message.get("content")), _text(message.get("refusal"))
    outcome = _outcome(text, refusal, choices[0].get("finish_reason"))
    return Reply(outcome, _tokens(answer.get("usage")), len((text + refusal).encode("utf-8", "replace")))


def _outcome(text: str, refusal: str, finish_reason: Any) -> str | GradeError:
    if refusal:
        return GradeError("judge_refusal", "the judge refused", f"the judge wrote: {refusal[:_SHOWN]}")
    if finish_reason == "content_filter":
        return GradeError("judge_refusal", "the endpoint's content filter stopped the judge")
    if finish_reason == "length":
        why = "the verdict was cut off: raise max_completions_tokens in the judge's sampling_params"
        return GradeError("judge_parse", why, f"the judge wrote: {text[:_SHOWN]}")
    return text


def _text(content: Any) -> str:
    """A message's text: a string, or a list of parts of which some are text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") in _OF_TEXT)
    return "".join(text for text in texts if isinstance(text, str))


def _tokens(usage: Any) -> Tokens | None:
    """The counts, None where one of them is missing or no count."""
    if not isinstance(usage, Mapping):
        return None
    read, written = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    return None if read is None or written is None else Tokens(read, written)


def _count(value: Any) -> int | None:
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= _MOST_TOKENS else None
