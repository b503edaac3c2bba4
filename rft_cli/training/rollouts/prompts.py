"""From an example's prompt to token ids, one way for training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset as HfDataset
from transformers import PreTrainedTokenizerBase

from rft_cli.config.suggest import counted
from rft_cli.errors import UsageError
from rft_cli.types import Example, Message


def render(prompt: str | Sequence[Message], has_template: bool) -> str | list[dict[str, str]]:
    """The form TRL takes: a conversation where the model has a chat template, else plain text.

    Base models get the messages' texts with blank lines between them and a line break at the end.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}] if has_template else prompt
    if has_template:
        return [{"role": m["role"], "content": m["content"]} for m in prompt]
    return "\n\n".join(m["content"] for m in prompt) + "\n"


def has_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    return getattr(tokenizer, "chat_template", None) is not None


def encode(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> list[list[int]]:
    """Token ids of every prompt, with the generation prompt of the chat template where there is one."""
    template = has_chat_template(tokenizer)
    rendered = [render(e.prompt, template) for e in examples]
    if not rendered:
        return []
    if template:
        conversations: Any = rendered
        try:
            encoded: Any = _apply(tokenizer, conversations)
        except Exception:
            raise _refusal(tokenizer, examples, conversations) from None
        return [list(ids) for ids in encoded["input_ids"]]
    texts: Any = rendered
    return [list(ids) for ids in tokenizer(text=texts)["input_ids"]]


def _apply(tokenizer: PreTrainedTokenizerBase, conversations: Any) -> Any:
    return tokenizer.apply_chat_template(
        conversations, add_generation_prompt=True, tokenize=True, return_dict=True
    )


def _refusal(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], conversations: Sequence[Any]
) -> UsageError:
    """What the chat template says of the first row that it raises an error for; it may refuse what it likes."""
    found = []
    for example, conversation in zip(examples, conversations, strict=True):
        try:
            _apply(tokenizer, [conversation])
        except Exception as error:
            found.append((example, conversation, error))
    example, conversation, first = found[0]
    said = (str(first).strip() or type(first).__name__).splitlines()[0]
    roles = ", ".join(dict.fromkeys(message["role"] for message in conversation))
    more = f" (and {counted(len(found) - 1, 'more row')})" if len(found) > 1 else ""
    return UsageError(
        f"{example.source}{more}: the model's chat template refuses a prompt of {roles}: {said}",
        "change these rows' messages, say a system message's text in the user's, or take another model",
    )


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """A prompt that leaves no room for a completion."""

    example: Example
    tokens: int


def too_long(
    examples: Sequence[Example], ids: Sequence[Sequence[int]], context: int, room: int
) -> list[LongPrompt]:
    """The prompts that leave fewer than `room` tokens of the context."""
    return [LongPrompt(e, len(i)) for e, i in zip(examples, ids, strict=True) if len(i) + room > context]


def training_rows(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> HfDataset:
    """TRL gets the prompt and a row number; the grader gets the row itself, so that Arrow never touches its values."""
    template = has_chat_template(tokenizer)
    prompts = [render(e.prompt, template) for e in examples]
    return HfDataset.from_dict({"prompt": prompts, "row": list(range(len(examples)))})
