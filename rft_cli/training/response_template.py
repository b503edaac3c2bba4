"""How transformers' server finds the completion in what a chat model wrote."""

from __future__ import annotations

from typing import Any

from rft_cli.training.rollouts.chat_templates import template_text
from rft_cli.training.stop_tokens import turn_end

_CHATML = "<|im_start|>assistant"
_MARK = "Kiwi7431"
"""Text that no chat template has of its own."""


def give_response_template(tokenizer: Any, model_type: str) -> None:
    """Give the tokenizer a response template where transformers would take a wrong one.

    Without one, its server parses what a Qwen model wrote as ChatML, whatever the chat template is: with another
    template it answers with the whole conversation.
    """
    own = getattr(tokenizer, "response_template", None)
    text = template_text(tokenizer)
    if own is not None or not model_type.startswith("qwen") or not text or _CHATML in text:
        return
    end = turn_end(tokenizer)
    opening = _opening(tokenizer)
    if end is None or not opening:
        return
    closing = str(tokenizer.added_tokens_decoder[end])
    content = {"close": closing, "content": "text", "content_args": {"strip": False}}
    tokenizer.response_template = {"start_anchor": opening, "fields": {"content": content}}


def _opening(tokenizer: Any) -> str:
    """What the template writes before an answer."""
    turns = [{"role": "user", "content": _MARK}]
    try:
        without, opened = (
            str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=begins))
            for begins in (False, True)
        )
    # A template may raise anything.
    except Exception:
        return ""
    return opened.removeprefix(without) if opened.startswith(without) else ""
