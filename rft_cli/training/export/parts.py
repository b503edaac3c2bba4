"""What an export is made and compared with: prompts, greedy settings, tokenizer and generation_config.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.runs.exports import ExportPlan
from rft_cli.runs.model_source import find_model
from rft_cli.training.export.base_model import BaseFiles, write_json
from rft_cli.training.models import context_length
from rft_cli.training.rollouts.sampling import SamplingSettings
from rft_cli.training.stop_tokens import stop_tokens
from rft_cli.types import Example, Source

PROMPTS = 32
MOST_TOKENS = 32
"""Greedy tokens compared for each prompt."""


def public_base(plan: ExportPlan, base: str) -> str:
    """The base that an adapter is for, as PEFT can load it; refused where it was only ever merged in memory."""
    source = find_model(base)
    if source.adapters:
        raise UsageError(
            f"{plan.run.path} began with {base}, an adapter that was merged into its base: the new adapter fits "
            "that merged model alone",
            "export whole weights with --format merged",
        )
    if source.is_gguf:
        raise UsageError(
            f"{plan.run.path} began with {base}: PEFT can't load an adapter's base from a GGUF file",
            "export whole weights with --format merged",
        )
    return source.base


def validation_prompts(run: Run) -> list[Example]:
    """Up to 32 prompts of the validation rows, as the run kept them: the data file may be gone."""
    first = {sample.row: sample for sample in run.read_samples("step-000000")}
    source = Source(str(run.path / "validation"), 0)
    return [Example(s.example_id, s.prompt, {}, source) for s in list(first.values())[:PROMPTS]]


def greedy_settings(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]]
) -> SamplingSettings:
    """Greedy, ending where the run's completions end."""
    room = context_length(model.config) - max(len(p) for p in prompts)
    return SamplingSettings(
        max_new_tokens=max(1, min(MOST_TOKENS, room)),
        temperature=0.0,
        top_p=1.0,
        stop=tuple(stop_tokens(model.config, model.generation_config, tokenizer)),
        pad=int(tokenizer.pad_token_id),
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, draft: Path) -> None:
    """Save it so that transformers 4 reads it too: version 5 writes a class name that 4 does not know."""
    tokenizer.save_pretrained(draft)
    file = draft / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    for local in ("is_local", "local_files_only"):  # said of the place it was loaded from
        config.pop(local, None)
    write_json(file, config)


def save_generation_config(own: BaseFiles | None, settings: SamplingSettings, draft: Path) -> None:
    """The base's own sampling defaults, whatever they are, ending completions where the run ended them."""
    config = {} if own is None else dict(own.generation)
    config["eos_token_id"] = list(settings.stop) if len(settings.stop) != 1 else settings.stop[0]
    config["pad_token_id"] = settings.pad
    write_json(draft / "generation_config.json", config)
