"""The most tokens that a request can take, known before it is sent: what a budget holds back for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft_cli.types import Message

_TEMPLATE_TOKENS = 256
"""What a chat template adds: marks of roles, and a system prompt of its own that some models have."""


@dataclass(frozen=True, slots=True)
class Most:
    """Tokens of one request: `input` those read, `output` those written, None where nothing limits them."""

    input: int
    output: int | None


def most_tokens(
    messages: Sequence[Message], parameters: Mapping[str, Any], response_format: Mapping[str, Any] | None
) -> Most:
    """The bound of one request.

    A token stands for one byte at least, in vocabularies that are made of bytes or fall back to them; endpoints count
    the JSON schema of the verdict as text that is read.
    """
    sent = json.dumps([list(messages), response_format], ensure_ascii=False)
    limit = parameters.get("max_completion_tokens")
    return Most(len(sent.encode("utf-8", "replace")) + _TEMPLATE_TOKENS, limit)
