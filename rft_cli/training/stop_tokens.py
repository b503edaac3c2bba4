"""The tokens that end a completion: EOS, those that a model declares, and the chat template's end of a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from rft_cli.errors import UsageError

_MARK = "Kiwi7431"
"""Text that no chat template has of its own."""


def stop_tokens(model_config: Any, generation_config: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token that ends a completion, once: the tokenizer's EOS, those that the model declares, and the one with
    which the chat template closes a turn."""
    own: list[int] = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    closing = turn_end(tokenizer)
    found = [*own, *declared_ends(generation_config, model_config), *([] if closing is None else [closing])]
    return list(dict.fromkeys(found))


def declared_ends(*configs: Any) -> list[int]:
    """The `eos_token_id`s of these configurations."""
    found: list[int] = []
    for config in configs:
        declared = getattr(config, "eos_token_id", None)
        found += declared if isinstance(declared, list) else [] if declared is None else [declared]
    return found


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token with which the chat template ends an assistant message; None where it has none."""
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _MARK}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    # A template may raise anything.
    except Exception:
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
