"""Models of a few thousand weights and in-process graders: real classes, toy sizes, built in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from rft_cli.types import Example, Grade, GradeRequest, Source

END = "<end>"


def tokenizer_of(size: int) -> PreTrainedTokenizerFast:
    """`size` words w1, w2, ... and token 0, which ends a completion, pads, and decodes to nothing."""
    words = {END: 0} | {f"w{i}": i for i in range(1, size)}
    inner = Tokenizer(WordLevel(words, unk_token=END))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=END, pad_token=END, unk_token=END, padding_side="left"
    )


def qwen3(
    vocabulary: int = 16, hidden: int = 32, layers: int = 4, seed: int = 0, head_std: float = 0.02
) -> Any:
    """A random Qwen3; `head_std` sets how far its next-token distribution is from uniform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=vocabulary,
                hidden_size=hidden,
                intermediate_size=2 * hidden,
                num_hidden_layers=layers,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=hidden // 2,
                max_position_embeddings=128,
                tie_word_embeddings=False,
                eos_token_id=0,
                pad_token_id=0,
            )
        )
        torch.nn.init.normal_(model.lm_head.weight, std=head_std)
    return model.eval()


def example(number: int, prompt: str = "w1 w2 w3") -> Example:
    return Example(
        f"row-{number}", prompt, {"prompt": prompt, "number": number}, Source("train.jsonl", number + 1)
    )


def graded(reward: float) -> Grade:
    return Grade("graded", reward)


class FunctionGrader:
    """A grader in this process; keeps what it was asked and what it said."""

    def __init__(self, function: Callable[[GradeRequest], Grade]) -> None:
        self._function = function
        self.requests: list[list[GradeRequest]] = []
        self.grades: list[list[Grade]] = []

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        self.requests.append(list(requests))
        self.grades.append([self._function(r) for r in requests])
        return self.grades[-1]

    def close(self) -> None:
        """Nothing to end."""
