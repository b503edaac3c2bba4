"""From a configuration and a device to a plan: lengths from the rows where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import psutil
import torch

from rft_cli.config import RunConfig
from rft_cli.report.memory import MemoryPlan
from rft_cli.report.pilot import WITHOUT_PILOT
from rft_cli.training.library_output import quiet_libraries
from rft_cli.training.memory_plan.planner import Device, Planner
from rft_cli.training.model_checks import check_architecture
from rft_cli.training.models import context_length, load_config, load_tokenizer
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.types import Example

WITHOUT_ROWS = 512
"""Tokens of the longest prompt where no rows are given."""


def make_plan(config: RunConfig, rows: Sequence[Example], memory: int | None, count: int) -> MemoryPlan:
    """The plan of a job; `memory`: bytes of one GPU, None for what this machine has."""
    quiet_libraries()
    own = load_config(config.model)
    check_architecture(config.model.path, own)
    notes = []
    context = context_length(own)
    if rows:
        ids = PromptEncoder.of(load_tokenizer(config.model), config).encode(rows)
        prompt = max(len(prompt) for prompt in ids)
    else:
        prompt = min(WITHOUT_ROWS, context // 2)
        notes.append(f"Prompts of {prompt} tokens are assumed; with -t the longest of the rows counts.")
    setting = config.rollout.max_completion_tokens
    if isinstance(setting, str):
        limit = min(WITHOUT_PILOT, context - prompt)
        notes.append(
            f"Completions of at most {limit} tokens are assumed: the pilot finds the limit, or "
            "--set rollout.max_completion_tokens=N."
        )
    else:
        limit = min(setting, context - prompt)
    plan = Planner(config, device(memory, count), prompt, limit).plan()
    return replace(plan, notes=tuple(notes))


def device(memory: int | None, count: int) -> Device:
    """The GPUs that were named, else those of this machine, else its CPU and memory."""
    if memory is not None:
        return Device("cuda", memory, count)
    if torch.cuda.is_available():
        return Device("cuda", torch.cuda.get_device_properties(0).total_memory, count)
    return Device("cpu", psutil.virtual_memory().total // count, count)
