"""The endpoint of judges: its address and key, the text and tokens of its replies, and what its errors say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rft_cli.config.judges import NONE, url_problem
from rft_cli.config.schema import JudgeConfig
from rft_cli.errors import UsageError
from rft_cli.types import GradeError, TokenUse

# The openai package is an extra.
if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

OFFICIAL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and its key, which is neither printed nor compared."""

    url: str
    key: str | None = field(default=None, repr=False, compare=False)
    key_env: str = NONE

    def redact(self, text: str) -> str:
        """The text without the key: servers repeat it in error messages."""
        return text if self.key is None else text.replace(self.key, "[key]")


def find_endpoint(judge: JudgeConfig, env: Mapping[str, str]) -> Endpoint:
    """The endpoint of the settings, which were checked already; UsageError where its address or key can't be used."""
    from_env = env.get("OPENAI_BASE_URL", "").strip()
    if judge.base_url is None and from_env and (wrong := url_problem(from_env)) is not None:
        raise UsageError(f"OPENAI_BASE_URL: {wrong}", "unset it, or set grader.judge.base_url")
    url = (judge.base_url or from_env or OFFICIAL).rstrip("/")
    if judge.api_key_env.lower() == NONE:
        return Endpoint(url)
    key = env.get(judge.api_key_env, "").strip()
    if not key:
        raise UsageError(
            f"the judge at {url} needs a key: the environment variable {judge.api_key_env} is not set",
            f"export {judge.api_key_env}=..., or for a server that needs no key: "
            "--set grader.judge.api_key_env=none",
        )
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"{judge.api_key_env} holds characters that no key has", "set it anew")
    return Endpoint(url, key, judge.api_key_env)


_SHOWN = 300
_SHOWN_OF_JUDGE = 2000


@dataclass(frozen=True, slots=True)
class Reply:
    """What the judge wrote, without the key, or why that is not a verdict.

    `tokens` is None where the endpoint does not count them; `size`, bytes read and written, replaces them then.
    """

    outcome: str | GradeError
    tokens: TokenUse | None
    size: TokenUse


def read_reply(request: Mapping[str, Any], completion: ChatCompletion, endpoint: Endpoint) -> Reply:
    """The reply in a chat completion that has a message."""
    choice = completion.choices[0]
    text, refusal = _text(choice.message.content), _text(choice.message.refusal)
    outcome = _outcome(endpoint.redact(text), endpoint.redact(refusal), choice.finish_reason)
    sent = json.dumps([request["messages"], request.get("response_format")], ensure_ascii=False)
    return Reply(outcome, _tokens(completion.usage), TokenUse(_bytes(sent), _bytes(text + refusal)))


def error_text(body: str) -> str:
    """What a server's error body says, short: the message of OpenAI's form, FastAPI's detail, or the text."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        value = body
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and name in value:
            value = value[name]
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.split())[:_SHOWN]


def _outcome(text: str, refusal: str, finish_reason: Any) -> str | GradeError:
    wrote = f"the judge wrote: {(refusal or text)[:_SHOWN_OF_JUDGE]}"
    if refusal:
        return GradeError("judge_refusal", "the judge refused", wrote)
    if finish_reason == "content_filter":
        return GradeError("judge_refusal", "the endpoint's content filter stopped the judge")
    if finish_reason == "length":
        message = "the verdict was cut off: raise max_completions_tokens in the judge's sampling_params"
        return GradeError("judge_parse", message, wrote)
    return text


def _text(content: Any) -> str:
    """The text of a message: a string, or a list of parts, of which some are the model's reasoning."""
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if part.get("type") in (None, "text", "output_text"))
    return "".join(text for text in texts if isinstance(text, str))


def _tokens(usage: Any) -> TokenUse | None:
    """Tokens read and written, which some servers write as text; None where one of them is not counted."""
    try:
        tokens = TokenUse(int(usage.prompt_tokens), int(usage.completion_tokens))
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
    return tokens if min(tokens) >= 0 else None


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
