"""The pilot of a job: the base model's first completions, the gate on them, and the `auto` settings from them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from accelerate import PartialState

from rft_cli.config import RunConfig
from rft_cli.config.launcher import sharding_in
from rft_cli.data.demonstrations import demonstration_of
from rft_cli.errors import GateNotMet
from rft_cli.events import Note, OnEvent, Piloted
from rft_cli.report import pilot as report
from rft_cli.report.pilot_gate import PilotVerdict, judge_pilot, pilot_message
from rft_cli.runs import Run
from rft_cli.runs.suggested_commands import resume_command
from rft_cli.training import auto, memory
from rft_cli.training.context import JobContext
from rft_cli.training.distributed import group
from rft_cli.training.hf_args import Resolved
from rft_cli.training.resolve import Resolution, limit_of
from rft_cli.training.rollouts.backbone import backbone_of
from rft_cli.training.rollouts.pilot_sampling import PilotSampler, PilotSamples
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.types import Sample

MOST_ROWS = 32
MOST_TOKENS_CPU = 4096
"""Bounds on the forward pass that is timed: rows, and tokens in all on a CPU, where many take long."""


@dataclass(frozen=True, slots=True)
class PilotResult:
    """What a pilot found: its document (pilot.json), the verdict, all samples, and the limit of a completion."""

    document: dict[str, Any]
    verdict: PilotVerdict
    samples: Sequence[Sample]
    limit: auto.Chosen[int]


def with_pilot(context: JobContext, run: Run, model: Any, resolution: Resolution, resume: bool) -> Resolved:
    """The resolved settings with the limit of a completion, and on a GPU the micro-batch size, from a pilot.

    A resumed run takes both from its own pilot, the size as far as it divides a process's share of a step. Raises
    GateNotMet where nothing can be learned and `pilot.gate` says stop; with checkpoints that is a warning. All
    processes call it.
    """
    config, emit, resolved = context.config, context.emit, resolution.resolved
    fits = config.optim.micro_batch_size == "auto"
    share = resolved.rollout_size(config.completions_a_prompt) // resolved.minibatches // resolved.world_size
    known = group.from_main(run.read_pilot) if resume else None
    if known is not None:
        limit = limit_of(config, context.limits, known).value
        emit(Note(f"max completion {limit} tokens, as when the run began"))
        micro = known.get("micro_batch_size")
        if fits and isinstance(micro, int):
            resolved = replace(resolved, micro_batch_size=auto.largest_divisor(share, micro))
        return replace(resolved, max_completion_tokens=limit)
    reason = why_no_pilot(config)
    if reason is not None:
        emit(Note(reason))
        return _with_limit(resolved, limit_of(config, context.limits), emit)
    found = run_pilot(context, model, resolution)
    stops = group.from_main(lambda: not run.checkpoints())
    # A base model without any reward is what sft is for.
    if not config.teaches:
        check_gate(found, config, emit, stops, kept=run if resume else None)
    resolved = _with_limit(resolved, found.limit, emit)
    document = found.document
    if fits and PartialState().device.type == "cuda":
        resolved = _with_fitting_micro_batch(context, model, resolved, share)
        document = {**document, "micro_batch_size": resolved.micro_batch_size}
    group.from_main(lambda: run.write_pilot(document))
    return resolved


def _with_limit(resolved: Resolved, limit: auto.Chosen[int], emit: OnEvent) -> Resolved:
    if limit.reason:
        emit(Note(limit.reason))
    return replace(resolved, max_completion_tokens=limit.value)


def _with_fitting_micro_batch(context: JobContext, model: Any, resolved: Resolved, share: int) -> Resolved:
    limits, what = context.limits, "completions"
    longest = resolved.max_completion_tokens
    if limits.references is not None:
        longest, what = limits.references.longest, "rows"
    tokens = limits.longest_prompt + longest
    size = memory.fitting(model, resolved, tokens, share)
    if size < resolved.micro_batch_size:
        wide = f"{resolved.micro_batch_size} of {tokens} tokens do not fit"
        context.emit(Note(f"micro-batches of {size} {what}: {wide}"))
    return replace(resolved, micro_batch_size=size)


def why_no_pilot(config: RunConfig) -> str | None:
    """Why there is no pilot; None where there is one."""
    if config.pilot.prompts == 0:
        return "no pilot: pilot.prompts is 0"
    if config.teaches and not isinstance(config.rollout.max_completion_tokens, str):
        return "no pilot: rollout.max_completion_tokens is set, and sft needs it for nothing else"
    if sharding_in(os.environ) is not None:
        return "no pilot: the model is spread over the processes, and none of them holds it whole"
    return None


def run_pilot(context: JobContext, model: Any, resolution: Resolution) -> PilotResult:
    """Sample, grade, measure and report. The model goes to this process's device. All processes call this together."""
    started = perf_counter()
    config, tokenizer, examples = context.config, context.tokenizer, context.job.train.examples
    with memory.explain(memory.WEIGHTS):
        model.to(PartialState().device)
    sampler = PilotSampler(context, model, resolution.resolved.temperature)
    with memory.explain(memory.SAMPLING):
        sampled = sampler.run(examples)
    samples, limit = sampled.samples, sampler.limit()
    found = report.figures(samples)
    references = {
        row: demonstration_of(examples[row], config.data.columns) for row in {s.row for s in samples}
    }
    judged = (
        PilotVerdict("ok")
        if config.teaches
        else judge_pilot(found, samples, references, fills_context=limit.value >= context.limits.room)
    )
    prompt = PromptEncoder.of(tokenizer, config).encode([examples[samples[0].row]])[0]
    with memory.explain(memory.SAMPLING):
        times = _times(sampled, model, len(prompt), resolution.course)
    document = {
        "schema": report.SCHEMA,
        **found.to_json(),
        "group_size": config.completions_a_prompt,
        "prompt": str(tokenizer.decode(prompt, skip_special_tokens=False)),
        "shown": [s.to_json() for s in report.shown(samples)],
        "limit_tried": sampler.widest,
        "max_completion_tokens": limit.value,
        "verdict": {"level": judged.level, "message": judged.message, "advice": list(judged.advice)},
        "seconds": {**times, "pilot": perf_counter() - started},
    }
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    context.emit(Piloted(document))
    return PilotResult(document, judged, samples, limit)


def check_gate(
    found: PilotResult, config: RunConfig, emit: OnEvent, stops: bool, kept: Run | None = None
) -> None:
    """GateNotMet where nothing can be learned, a warning where `pilot.gate` is warn, or `stops` is off.

    `kept`: a resumed run, which stays where it is; a new one is deleted.
    """
    judged = found.verdict
    if judged.level == "ok" or config.pilot.gate == "none":
        return
    said = pilot_message(judged, report.shown(found.samples))
    if judged.level == "nothing" and config.pilot.gate == "stop" and stops:
        left = "no run is kept" if kept is None else f"{kept.path} stays"
        again = "" if kept is None else f"{resume_command(kept.path)} --force "
        raise GateNotMet(
            f"{said.message}\nnothing was trained, and {left}",
            f"{said.fix}\nto train all the same: {again}--set pilot.gate=warn",
        )
    emit(Note(f"{said.message}\n{said.fix}", "warning"))


def _times(
    sampled: PilotSamples, model: Any, prompt: int, course: report.Course | None
) -> dict[str, float | None]:
    """Seconds that a rollout batch, a step and the job are likely to take."""
    tokens = sum(s.tokens for s in sampled.samples) / len(sampled.samples)
    return report.times(
        sampled.rollout_s / sampled.timed,
        sampled.grading_s / sampled.timed,
        _forward_seconds(model, prompt + round(tokens)),
        course,
    )


def _forward_seconds(model: Any, tokens: int) -> float:
    """Seconds of the decoder for a row of so many tokens, without gradients, in a batch of some rows."""
    tokens = max(1, tokens)
    on_cpu = model.device.type == "cpu"
    rows = max(1, min(MOST_ROWS, MOST_TOKENS_CPU // tokens)) if on_cpu else MOST_ROWS
    while True:
        try:
            return _timed_pass(model, rows, tokens) / rows
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
        rows //= 2


def _timed_pass(model: Any, rows: int, tokens: int) -> float:
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (rows, tokens), generator=generator).to(model.device)
    started = perf_counter()
    with torch.no_grad():
        states = backbone_of(model)(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        # Waits for the device.
        float(states.last_hidden_state[0, -1, 0])
    return perf_counter() - started
