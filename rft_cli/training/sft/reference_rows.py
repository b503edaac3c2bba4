"""From a row's reference to tokens to learn: the prompt as in rollouts, the reference, and the end of a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset as HfDataset
from transformers import PreTrainedTokenizerBase

from rft_cli.data.demonstrations import demonstration_of
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.report.pilot import percentile
from rft_cli.training.auto import ReferenceLengths
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.stop_tokens import turn_end
from rft_cli.types import Example

IGNORED = -100
"""The label of a token that sft does not learn."""
TAIL = 16
"""Tokens of a prompt before which nothing changes how its completion is cut into tokens."""


@dataclass(frozen=True, slots=True)
class ReferenceRows:
    """Token ids of the training rows: what is read, and what is learned, its end included."""

    prompts: Sequence[Sequence[int]]
    completions: Sequence[Sequence[int]]

    @property
    def longest(self) -> int:
        """Tokens of the longest row, prompt and completion."""
        return max(len(p) + len(c) for p, c in zip(self.prompts, self.completions, strict=True))

    @property
    def lengths(self) -> ReferenceLengths:
        """Lengths of the completions."""
        ordered = sorted(map(len, self.completions))
        return ReferenceLengths(percentile(ordered, 0.95), ordered[-1])

    def dataset(self) -> HfDataset:
        """What TRL's SFTTrainer takes as prepared: `input_ids`, and `labels` that leave the prompt out."""
        pairs = [(list(p), list(c)) for p, c in zip(self.prompts, self.completions, strict=True)]
        return HfDataset.from_dict(
            {
                "input_ids": [prompt + completion for prompt, completion in pairs],
                "labels": [[IGNORED] * len(prompt) + completion for prompt, completion in pairs],
            }
        )


def reference_rows(
    encoder: PromptEncoder,
    examples: Sequence[Example],
    prompts: Sequence[Sequence[int]],
    columns: Mapping[str, str],
    context: int,
) -> ReferenceRows:
    """The rows as tokens; `prompts`: what `encoder` makes of them.

    Raises UsageErrors naming rows that are longer than the model's context: a cut reference would teach a cut end.
    """
    tokenizer = encoder.tokenizer
    end = end_of(tokenizer)
    completions = []
    for example, prompt in zip(examples, prompts, strict=True):
        text = demonstration_of(example, columns)
        # The preflight has checked it.
        assert text is not None
        rest = behind(encoder.begun(example), text)
        completions.append(completion_ids(tokenizer, prompt, rest, end))
    taught = ReferenceRows(prompts, completions)
    long = [
        UsageError(
            f"{example.source}: prompt and reference have {len(prompt) + len(completion)} tokens; "
            f"the model's context is {context}",
            "shorten the reference, drop the row, or take a model with a longer context",
        )
        for example, prompt, completion in zip(examples, prompts, completions, strict=True)
        if len(prompt) + len(completion) > context
    ]
    if long:
        raise UsageErrors(long[:20])
    return taught


def behind(begun: str, text: str) -> str:
    """The rest of an answer whose beginning is in the prompt; `text` may leave the beginning out.

    White space around the beginning is no difference: `<think>` where the template writes `<think>\\n`.
    """
    if text.startswith(begun):
        return text.removeprefix(begun)
    mark = begun.strip()
    if not mark or not text.lstrip().startswith(mark):
        return text
    rest = text.lstrip().removeprefix(mark)
    return rest.removeprefix("\n") if begun.endswith("\n") else rest


def end_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token with which a taught completion ends: the chat template's end of a turn, else EOS."""
    closing = turn_end(tokenizer)
    return int(tokenizer.eos_token_id) if closing is None else closing


def completion_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], text: str, end: int
) -> list[int]:
    """The tokens of `text` as they follow `prompt`, and `end`, once.

    Cut into tokens behind the prompt's own tail: alone, some tokenizers would put a space before it. Where that tail
    would be cut in another way, the text is cut alone: the prompt's tokens stay those of the rollouts.
    """
    tail = list(prompt[-TAIL:])
    before: Any = tokenizer.decode(tail, skip_special_tokens=False)
    joined = _ids(tokenizer, before + text)
    ids = joined[len(tail) :] if joined[: len(tail)] == tail else _ids(tokenizer, text)
    return ids if ids[-1:] == [end] else [*ids, end]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
