"""What went wrong with a request: the kind of failed grade, whether trying again can help, how long to wait."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from rft_cli.grading.judge.endpoint import Endpoint
from rft_cli.types import GradeError

_SHOWN = 300
_RETRIED = (408, 409, 429)
_HOPELESS = ("insufficient_quota", "billing_hard_limit_reached")
"""Codes that come with status 429 and do not pass by waiting."""


class BadReply(Exception):
    """The endpoint answered with status 200 and something that is no chat completion."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A request that got no answer. `status`: of HTTP, None without one. `body`: all that the server said."""

    kind: str
    message: str
    retry: bool = False
    wait_s: float | None = None
    status: int | None = None
    body: str = ""
    connected: bool = True

    def grade_error(self) -> GradeError:
        return GradeError(self.kind, self.message)


def fault_of(error: Exception, endpoint: Endpoint, timeout_s: float) -> Fault:
    """The fault behind an exception of the client; its texts never hold the key."""
    import openai

    if isinstance(error, TimeoutError | openai.APITimeoutError):
        message = f"no answer within {timeout_s:g} s (grader.judge.timeout_s)"
        return Fault("judge_timeout", message, retry=True, connected=False)
    if isinstance(error, openai.APIStatusError):
        return _status_fault(error.status_code, error.response.text, error.response.headers, endpoint)
    if isinstance(error, openai.APIConnectionError):
        cause = endpoint.redact(str(error.__cause__ or error) or type(error.__cause__).__name__)
        return Fault("judge_server", f"connection lost: {cause}"[:_SHOWN], retry=True, connected=False)
    if isinstance(error, BadReply):
        return Fault("judge_server", endpoint.redact(str(error))[:_SHOWN], retry=True, status=200)
    text = endpoint.redact(f"{type(error).__name__}: {error}")
    return Fault("judge_server", text[:_SHOWN])


def said_by(body: str) -> str:
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


def _status_fault(status: int, body: str, headers: Mapping[str, str], endpoint: Endpoint) -> Fault:
    body = endpoint.redact(body)
    limited = status == 429
    return Fault(
        "judge_rate_limit" if limited else "judge_server",
        f"HTTP {status}: {said_by(body)}",
        retry=(status in _RETRIED or status >= 500) and not (limited and any(c in body for c in _HOPELESS)),
        wait_s=_retry_after(headers),
        status=status,
        body=body,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: retry-after-ms, or Retry-After as seconds or as a date (RFC 9110)."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
