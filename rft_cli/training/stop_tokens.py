"""Ends of completions beside the tokenizer's EOS: what a model declares, and the chat template's end of a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from rft_cli.errors import UsageError

_MARK = "Kiwi7431"
"""Text that no chat template has of its own."""


def declared_ends(*configs: Any) -> list[int]:
    """What these configurations name as `eos_token_id`."""
    found: list[int] = []
    for config in configs:
        declared = getattr(config, "eos_token_id", None)
        found += declared if isinstance(declared, list) else [] if declared is None else [declared]
    return found


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token with which the chat template closes what the assistant says; None where it has none."""
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _MARK}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # a template may refuse what it likes
        return None
    _, there, after = text.rpartition(_MARK)
    after = after.lstrip()
    tokens = {str(token): number for number, token in tokenizer.added_tokens_decoder.items()}
    closing = max((token for token in tokens if token and after.startswith(token)), key=len, default=None)
    return int(tokens[closing]) if there and closing is not None else None


def give_end(tokenizer: PreTrainedTokenizerBase, declared: Sequence[int], model: str) -> None:
    """Give a tokenizer without EOS the token that ends a turn: the template's, or a `declared` special one.

    Raises UsageError where there is none: every completion would run to its limit.
    """
    special = tokenizer.added_tokens_decoder
    closing = turn_end(tokenizer)
    ends = [*([] if closing is None else [closing]), *(token for token in declared if token in special)]
    if not ends:
        raise UsageError(
            f"model {model!r}: nothing ends a completion: its tokenizer has no EOS token, its configuration names "
            "no special token as one, and no chat template closes a turn",
            'name the token that ends a text as "eos_token" in its tokenizer_config.json',
        )
    tokenizer.eos_token = str(special[ends[0]])
