"""How transformers' server finds the completion in what a model wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rft_cli.training.rollouts.chat_templates import template_text

_CHATML = "<|im_start|>assistant"


def give_response_template(tokenizer: Any, model_type: str, stops: Sequence[int]) -> None:
    """Give the tokenizer a response template where transformers would take a wrong one; `stops` end a completion.

    Without one, its server parses what a Qwen model wrote as ChatML, whatever the chat template is: with another
    template it answers with the whole conversation.
    """
    own = getattr(tokenizer, "response_template", None)
    if own is not None or not model_type.startswith("qwen") or _CHATML in template_text(tokenizer):
        return
    ends = [str(tokenizer.convert_ids_to_tokens(stop)) for stop in stops]
    content = {"close": ends, "content": "text", "content_args": {"strip": False}}
    # The completion begins where the prompt ends.
    tokenizer.response_template = {"start_anchor_pattern": r"\Z", "fields": {"content": content}}
