"""Models of a few thousand weights and in-process graders: real classes, toy sizes, built in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast, PrinterCallback, Qwen3Config, Qwen3ForCausalLM

from rft_cli.config import RunConfig
from rft_cli.grading.protocol import Grader
from rft_cli.grading.stats import GraderStats
from rft_cli.training import build
from rft_cli.training.hf_args import Resolved
from rft_cli.training.library_output import quiet_libraries
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.rollouts.rewards import GraderReward
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


def encoder_of(tokenizer: PreTrainedTokenizerFast | None = None) -> PromptEncoder:
    """The prompts of a job with default settings."""
    return PromptEncoder.of(tokenizer or tokenizer_of(16), RunConfig())


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


class FunctionGrader(Grader):
    """A grader in this process; keeps what it was asked and what it said."""

    def __init__(self, function: Callable[[GradeRequest], Grade]) -> None:
        self.stats = GraderStats()
        self._function = function
        self.requests: list[list[GradeRequest]] = []
        self.grades: list[list[Grade]] = []

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        self.requests.append(list(requests))
        self.grades.append([self._function(r) for r in requests])
        return self.grades[-1]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """All at once."""
        yield self.grade(list(requests))

    def close(self) -> None:
        """Nothing to end."""


def trainer_of(
    folder: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    grader: FunctionGrader,
    *,
    prompts: Sequence[str],
    settings: dict[str, Any],
    critic: str = "mlp",
    lora: bool = False,
    learning_rate: float = 1e-3,
    n_epochs: int = 1,
    max_completion_tokens: int = 8,
    micro_batch_size: int = 8,
    minibatches: int = 1,
    world_size: int = 1,
) -> Any:
    """The trainer as a job builds it; all prompts make one rollout batch."""
    quiet_libraries()
    resolved = Resolved(
        lora=lora,
        learning_rate=learning_rate,
        critic=critic,
        critic_learning_rate=3 * learning_rate,
        n_epochs=n_epochs,
        max_steps=None,
        prompts_per_batch=len(prompts),
        max_completion_tokens=max_completion_tokens,
        micro_batch_size=micro_batch_size,
        gradient_checkpointing=False,
        validate_every=1,
        critic_warmup=int(settings.get("ppo", {}).get("critic_warmup", 0)),
        world_size=world_size,
        minibatches=minibatches,
        temperature=float(settings.get("rollout", {}).get("temperature", 1.0)),
    )
    reward = GraderReward(grader, [example(i, p) for i, p in enumerate(prompts)], [0], encoder_of(tokenizer))
    rows = Dataset.from_dict({"prompt": list(prompts), "row": list(range(len(prompts)))})
    config = RunConfig.model_validate(settings)
    trainer = build.build_trainer(config, resolved, tokenizer, model, str(folder), reward, rows)
    trainer.remove_callback(PrinterCallback)
    return trainer
