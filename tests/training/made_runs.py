"""Runs that nothing trained: a random base, and a checkpoint that is the base with its weights moved."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from rft_cli.runs import Run
from rft_cli.types import Grade, Sample
from tests.training.toys import tokenizer_of

VOCABULARY = 64


def save_base(folder: Path, model: PreTrainedModel, dtype: torch.dtype = torch.float32) -> Path:
    """The model in `dtype` with a tokenizer of 63 words; weights as large as trained ones, so that differences show."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "norm" not in name:
                parameter.mul_(5)
    model.to(dtype).save_pretrained(folder)
    tokenizer_of(VOCABULARY).save_pretrained(folder)
    return folder


def run_of(
    folder: Path,
    base: Path,
    *,
    lora: bool,
    prompts: Sequence[int] = (5, 9, 14),
    seed: int = 0,
    name: str | None = None,
) -> Run:
    """A run of `base` with one checkpoint, its best; `prompts` are the lengths of its validation prompts.

    `name`: what its configuration calls the base, if not by its path.
    """
    run = Run.create(
        folder / "runs",
        "made",
        config_yaml=f"model: {{path: {name or base}}}\nlora: {{enabled: {str(lora).lower()}}}\n",
        info={"model": name or str(base)},
    )
    partial = run.begin_checkpoint(1)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    # What training switches off, and must not be seen in an export.
    model.config.get_text_config().attention_dropout = 0.0
    model.config.use_cache = False
    model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0)
    generator = torch.Generator().manual_seed(seed)
    if lora:
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and (not lora or "lora_B" in name):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.02 * noise)
    model.save_pretrained(partial)
    if not lora:
        tokenizer_of(VOCABULARY).save_pretrained(partial)
    run.commit_checkpoint(1, partial)
    run.set_best(1)
    words = random.Random(seed)
    texts = [" ".join(f"w{words.randrange(1, VOCABULARY)}" for _ in range(length)) for length in prompts]
    samples = [
        Sample(i, f"v:{i}", text, "w1", 1, False, Grade("graded", 0.0)) for i, text in enumerate(texts)
    ]
    run.write_samples("step-000000", samples)
    return run
