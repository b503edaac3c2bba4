"""The pilot of a job: what the base model's first completions say of it, the gate, and the `auto` settings from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from rft_cli.config import RunConfig
from rft_cli.data.demonstrations import demonstration_of
from rft_cli.errors import GateNotMet
from rft_cli.events import Note, OnEvent, Piloted
from rft_cli.grading.protocol import Grader
from rft_cli.job import Job
from rft_cli.report import pilot as report
from rft_cli.report.pilot_gate import PilotVerdict, judge_pilot, pilot_message
from rft_cli.runs import Run
from rft_cli.runs.suggested_commands import resume_command
from rft_cli.stopping import Stop, interruption
from rft_cli.training import auto, memory
from rft_cli.training.distributed import group
from rft_cli.training.hf_args import Resolved
from rft_cli.training.rollouts.backbone import backbone_of
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.rollouts.waves import Room, Sampled, Waves
from rft_cli.types import Example, Sample

MOST_ROWS = 32
MOST_TOKENS_CPU = 4096
"""Bounds on the forward pass that is timed: rows, and tokens in all on a CPU, where many take long."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a pilot brought: its document (pilot.json), the verdict, all samples, and the limit of a completion."""

    document: dict[str, Any]
    verdict: PilotVerdict
    samples: Sequence[Sample]
    limit: auto.Chosen[int]


def settle(
    job: Job,
    run: Run,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    room: Room,
    resolved: Resolved,
    course: report.Course | None,
    grader: Grader,
    emit: OnEvent,
    stop: Stop,
    resume: bool,
) -> Resolved:
    """`resolved` with the limit of a completion, and on a GPU the micro-batch size, from a pilot.

    A run that goes on takes both from its own, the size as far as it divides a process's share of a step. Raises
    GateNotMet where nothing can be learned and `pilot.gate` says stop; with checkpoints that is a warning. All
    processes call it.
    """
    config = job.config
    known = group.from_main(run.read_pilot) if resume else None
    if known is not None:
        limit = limit_of(config, room, known).value
        emit(Note(f"max completion {limit} tokens, as when the run began"))
        micro = known.get("micro_batch_size")
        if config.optim.micro_batch_size == "auto" and isinstance(micro, int):
            share = _share(resolved, config.completions_a_prompt)
            resolved = replace(resolved, micro_batch_size=auto.largest_divisor(share, micro))
        return replace(resolved, max_completion_tokens=limit)
    reason = _left_out(config)
    if reason is not None:
        emit(Note(reason))
        return _with_limit(resolved, limit_of(config, room, None), emit)

    def check_stop() -> None:
        number = group.stop_asked(stop)
        if number is not None:
            raise interruption(number)

    seen = look(config, model, tokenizer, room, job.train.examples, grader, emit, check_stop, course)
    stops = group.from_main(lambda: not run.checkpoints())
    if not config.teaches:  # a base model without any reward is what sft is for
        gate(seen, config, emit, stops, kept=run if resume else None)
    resolved = _with_limit(resolved, seen.limit, emit)
    document = seen.document
    if config.optim.micro_batch_size == "auto" and group.device().type == "cuda":
        resolved = _that_fits(resolved, model, room, config.completions_a_prompt, emit)
        document = {**document, "micro_batch_size": resolved.micro_batch_size}
    group.from_main(lambda: run.write_pilot(document))
    return resolved


def _with_limit(resolved: Resolved, limit: auto.Chosen[int], emit: OnEvent) -> Resolved:
    if limit.reason:
        emit(Note(limit.reason))
    return replace(resolved, max_completion_tokens=limit.value)


def _share(resolved: Resolved, group_size: int) -> int:
    """Completions of a step that one process has."""
    return resolved.rollout_size(group_size) // resolved.minibatches // resolved.world_size


def _that_fits(resolved: Resolved, model: Any, room: Room, group_size: int, emit: OnEvent) -> Resolved:
    longest = resolved.max_completion_tokens if room.taught is None else room.taught.longest
    tokens = room.longest_prompt + longest
    size = memory.fitting(model, resolved, tokens, _share(resolved, group_size))
    if size < resolved.micro_batch_size:
        what = "completions" if room.taught is None else "rows"
        wide = f"{resolved.micro_batch_size} of {tokens} tokens do not fit"
        emit(Note(f"micro-batches of {size} {what}: {wide}"))
    return replace(resolved, micro_batch_size=size)


def limit_of(config: RunConfig, room: Room, known: Mapping[str, Any] | None) -> auto.Chosen[int]:
    """The limit of a completion without a pilot, or with the document of one that was."""
    setting = config.rollout.max_completion_tokens
    if isinstance(setting, str) and known is not None:
        setting = int(known["max_completion_tokens"])
    return auto.max_completion_tokens(setting, room.context, room.longest_prompt, None)


def _left_out(config: RunConfig) -> str | None:
    """Why there is no pilot; None where there is one."""
    if config.pilot.prompts == 0:
        return "no pilot: pilot.prompts is 0"
    if config.teaches and not isinstance(config.rollout.max_completion_tokens, str):
        return "no pilot: rollout.max_completion_tokens is set, and sft needs it for nothing else"
    if any(os.environ.get(f"ACCELERATE_USE_{kind}") for kind in ("FSDP", "DEEPSPEED")):
        return "no pilot: the model is spread over the processes, and none of them holds it whole"
    return None


def look(
    config: RunConfig,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    room: Room,
    examples: Sequence[Example],
    grader: Grader,
    emit: OnEvent,
    check_stop: Callable[[], None],
    course: report.Course | None,
) -> Seen:
    """Sample, grade, measure and tell. The model goes to this process's device. All processes call this together."""
    started = perf_counter()
    with memory.told(memory.WEIGHTS):
        model.to(group.device())
    waves = Waves(config, tokenizer, model, room, grader, emit, check_stop)
    with memory.told(memory.SAMPLING):
        sampled = waves.run(examples)
    samples, limit = sampled.samples, waves.limit()
    found = report.figures(samples)
    references = {
        row: demonstration_of(examples[row], config.data.columns) for row in {s.row for s in samples}
    }
    judged = (
        PilotVerdict("ok")
        if config.teaches
        else judge_pilot(found, samples, references, fills_context=limit.value >= room.tokens)
    )
    prompt = PromptEncoder.of(tokenizer, config).encode([examples[samples[0].row]])[0]
    with memory.told(memory.SAMPLING):
        times = _times(sampled, model, len(prompt), course)
    document = {
        "schema": report.SCHEMA,
        **found.to_json(),
        "group_size": config.completions_a_prompt,
        "prompt": str(tokenizer.decode(prompt, skip_special_tokens=False)),
        "shown": [s.to_json() for s in report.shown(samples)],
        "limit_tried": waves.widest,
        "max_completion_tokens": limit.value,
        "verdict": {"level": judged.level, "message": judged.message, "advice": list(judged.advice)},
        "seconds": {**times, "pilot": perf_counter() - started},
    }
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    emit(Piloted(document))
    return Seen(document, judged, samples, limit)


def gate(seen: Seen, config: RunConfig, emit: OnEvent, stops: bool, kept: Run | None = None) -> None:
    """GateNotMet where nothing can be learned, a warning where `pilot.gate` is warn, or `stops` is off.

    `kept`: a run that goes on, and stays where it is; a new one goes.
    """
    judged = seen.verdict
    if judged.level == "ok" or config.pilot.gate == "none":
        return
    said = pilot_message(judged, report.shown(seen.samples))
    if judged.level == "nothing" and config.pilot.gate == "stop" and stops:
        left = "no run is kept" if kept is None else f"{kept.path} stays"
        again = "" if kept is None else f"{resume_command(kept.path)} --force "
        raise GateNotMet(
            f"{said.message}\nnothing was trained, and {left}",
            f"{said.fix}\nto train all the same: {again}--set pilot.gate=warn",
        )
    emit(Note(f"{said.message}\n{said.fix}", "warning"))


def _times(
    sampled: Sampled, model: Any, prompt: int, course: report.Course | None
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
    """Seconds that a row of so many tokens costs in the decoder without gradients, in a batch of some rows."""
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
        float(states.last_hidden_state[0, -1, 0])  # waits for the device
    return perf_counter() - started
