"""What a job would do: its settings resolved, its steps and completions. Reads configurations, loads no weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rft_cli.config import RunConfig
from rft_cli.errors import UsageError
from rft_cli.job import Job, processes
from rft_cli.training import auto, build, precision
from rft_cli.training.lora import lora_targets
from rft_cli.training.pilot import why_no_pilot
from rft_cli.training.resolve import ModelFacts, Resolution, limit_of, resolve


@dataclass(frozen=True, slots=True)
class Plan:
    """`document` is JSON: what is known before the pilot. `reasons` explain the choices."""

    document: dict[str, Any]
    reasons: Sequence[str]


def check_processes(job: Job, count: int) -> None:
    """Raise UsageError where the training rows are fewer than the processes."""
    rows = len(job.train.examples)
    if rows < count:
        raise UsageError(
            f"{job.train.path} has {rows} rows for {count} processes",
            "train with fewer processes, or with more rows",
        )


def model_facts(config: RunConfig, device: str, count: int) -> tuple[ModelFacts, list[str]]:
    """What the model's configuration says, for `count` processes on this type of device; and why."""
    parameters = build.parameters_of(config.model)
    lora = auto.use_lora(config.lora.enabled, parameters, config.lora.quantize)
    dtype = config.model.dtype
    compute = precision.compute_dtype(dtype, device, precision.has_bfloat16(device, parameters))
    reasons = [precision.float32_note(dtype, lora.value, compute), lora.reason]
    return ModelFacts(parameters, lora.value, device, count, compute), [text for text in reasons if text]


def make_plan(job: Job, limits: auto.LengthLimits, pilot: dict[str, Any] | None = None) -> Plan:
    """The plan of a job on this machine; `pilot`: the document of the one that a resumed run has.

    Raises UsageError for what the model's configuration shows to be wrong.
    """
    config = job.config
    device, count = "cuda" if torch.cuda.is_available() else "cpu", processes(config)
    check_processes(job, count)
    facts, reasons = model_facts(config, device, count)
    if facts.lora:
        lora_targets(build.empty_model(config.model), config.lora.target_modules)
    resolution = resolve(job, limits, facts)
    no_pilot = why_no_pilot(config)
    if pilot is not None:
        no_pilot = "the pilot is that of the run's beginning"
    limit = limit_of(config, limits, pilot)
    undecided = no_pilot is None and config.rollout.max_completion_tokens == "auto"
    document = {
        "algorithm": config.algorithm,
        "model": {
            "path": config.model.path,
            "revision": config.model.revision,
            "parameters": facts.parameters,
            "context": limits.context,
        },
        "device": device,
        "processes": count,
        "compute": facts.compute,
        "rows": {
            "train": len(job.train.examples),
            "validation": len(job.validation.examples),
            "test": 0 if job.test is None else len(job.test.examples),
        },
        "longest_prompt": limits.longest_prompt,
        "pilot_completions": 0 if no_pilot else _piloted(job),
        **_length(job, resolution),
        "settings": {
            **_settings(config, resolution),
            "rollout.max_completion_tokens": None if undecided else limit.value,
        },
    }
    told = [*reasons, *resolution.reasons, no_pilot, "" if undecided else limit.reason]
    return Plan(document, [text for text in told if text])


def _piloted(job: Job) -> int:
    prompts = min(job.config.pilot.prompts, len(job.train.examples))
    return prompts * job.config.completions_a_prompt


def _length(job: Job, resolution: Resolution) -> dict[str, Any]:
    """Steps, and what is sampled: in training, and in validations (the base model's and the test rows' too)."""
    resolved, course = resolution.resolved, resolution.course
    # both kinds of jobs count their steps
    steps = resolved.max_steps or 0
    validations = 1 + math.ceil(steps / resolved.validate_every)
    tested = 0 if job.test is None else 2 * len(job.test.examples)
    sampled = validations * len(job.validation.examples) + tested
    found = {
        "steps": steps,
        "validations": validations,
        "validation_completions": sampled * job.config.validation.samples_per_prompt,
    }
    rows = len(job.train.examples)
    if course is None:
        an_epoch = math.ceil(rows / resolved.prompts_per_batch)
        return {**found, "epochs": steps / an_epoch, "rollout_batches": 0, "completions": 0}
    an_epoch = rows // resolved.prompts_per_batch
    return {
        **found,
        "epochs": course.batches / an_epoch,
        "rollout_batches": course.batches,
        "completions": course.batches * course.batch,
    }


def _settings(config: RunConfig, resolution: Resolution) -> dict[str, Any]:
    """Settings that depend on model, rows and device -> what they come to."""
    resolved = resolution.resolved
    found: dict[str, Any] = {
        "lora.enabled": resolved.lora,
        "optim.learning_rate": resolved.learning_rate,
        "optim.max_steps": resolved.max_steps,
        "optim.micro_batch_size": resolved.micro_batch_size,
        "model.gradient_checkpointing": resolved.gradient_checkpointing,
    }
    if config.teaches:
        return {**found, "sft.batch_size": resolved.prompts_per_batch}
    return {
        **found,
        "rollout.prompts_per_batch": resolved.prompts_per_batch,
        "rollout.temperature": resolved.temperature,
        "ppo.minibatches": resolved.minibatches,
        "ppo.critic_warmup": resolved.critic_warmup,
    }
