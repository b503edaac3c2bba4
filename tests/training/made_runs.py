"""Runs that nothing trained: a random base, and a checkpoint that is the base with its weights moved."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel

from rft_cli.config.schema import ModelConfig
from rft_cli.runs import Run
from rft_cli.runs.model_source import find_model
from rft_cli.training.lora import lora_targets
from rft_cli.training.models import load_policy
from rft_cli.types import Grade, Sample

TINY = find_model("builtin/tiny").base
VOCABULARY = 1280
END, PAD = 3, 0


def save_base(folder: Path, model: PreTrainedModel, dtype: torch.dtype = torch.float32) -> Path:
    """`model` in `dtype` with the tokenizer of builtin/tiny; weights large enough for differences to show."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "norm" not in name:
                parameter.mul_(5)
    model.to(dtype).save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    return folder


def run_of(
    folder: Path,
    base: Path,
    *,
    lora: bool,
    prompts: Sequence[int] = (5, 10),
    seed: int = 0,
    name: str | None = None,
) -> Run:
    """A run of `base` with one checkpoint, its best; `prompts` are the lengths of its validation prompts in words.

    `name`: what its configuration calls the base, if not by its path.
    """
    run = Run.create(
        folder / "runs",
        "made",
        config_yaml=f"model: {{path: {name or base}}}\nlora: {{enabled: {str(lora).lower()}}}\n",
        info={"model": name or str(base)},
    )
    partial = run.begin_checkpoint(1)
    model: Any = load_policy(find_model(str(base)), ModelConfig(path=str(base)), torch.float32)
    model.config.use_cache = False  # as training leaves it
    model.generation_config = GenerationConfig(eos_token_id=END, pad_token_id=PAD)
    generator = torch.Generator().manual_seed(seed)
    if lora:
        targets = lora_targets(model, "all-linear")
        model = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and (not lora or "lora_B" in name):
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.02 * noise)
    model.save_pretrained(partial)
    if not lora:
        AutoTokenizer.from_pretrained(TINY).save_pretrained(partial)
    run.commit_checkpoint(1, partial)
    run.set_best(1)
    words = random.Random(seed)
    texts = [" ".join(words.choice(string.ascii_lowercase) for _ in range(length)) for length in prompts]
    samples = [
        Sample(i, f"v:{i}", text, "w1", 1, False, Grade("graded", 0.0)) for i, text in enumerate(texts)
    ]
    run.write_samples("step-000000", samples)
    return run
