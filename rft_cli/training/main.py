"""One job, from a checked configuration to a result: what `rft create` and `rft train` run in each process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedTokenizerBase

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.events import Note, OnEvent
from rft_cli.grading.background import in_background
from rft_cli.grading.protocol import Grader
from rft_cli.job import Job
from rft_cli.runs import Run
from rft_cli.runs.model_source import find_model
from rft_cli.runs.warnings import KeptWarnings
from rft_cli.stopping import Stop
from rft_cli.training import auto, precision, quantization
from rft_cli.training.context import JobContext
from rft_cli.training.distributed import group, sharding
from rft_cli.training.engine_of_job import engine_wanted, with_engine
from rft_cli.training.graders import open_grader
from rft_cli.training.hooks.trackers import reporting
from rft_cli.training.library_output import quiet_libraries
from rft_cli.training.loop import run_training
from rft_cli.training.lora import lora_targets
from rft_cli.training.model_checks import check_architecture, check_token_ids, first_use
from rft_cli.training.models import context_length, load_config, load_policy, load_tokenizer, weights_dtype
from rft_cli.training.pilot import with_pilot
from rft_cli.training.plan import check_processes, model_facts
from rft_cli.training.resolve import Resolution, resolve
from rft_cli.training.rollouts.prompt_notes import prompt_notes
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.sft.reference_rows import ReferenceRows, reference_rows

LEAST_ROOM = 8
"""Tokens a prompt must leave for its completion."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """What the tokenizer makes of the job's rows.

    `notes` are for people; `references`: under sft, the training rows as tokens to learn.
    """

    tokenizer: PreTrainedTokenizerBase
    limits: auto.LengthLimits
    notes: Sequence[Note]
    references: ReferenceRows | None = None


def check(job: Job, trains: bool = True) -> Lengths:
    """The preflight that needs the tokenizer, before any weights load: prompts that leave no room are named.

    Where the job `trains` with sft, so are references that are too long.
    """
    quiet_libraries()
    model, own = job.config.model.path, load_config(job.config.model)
    check_architecture(model, own)
    tokenizer = load_tokenizer(job.config.model)
    context = context_length(own)
    everything = [*job.train.examples, *job.validation.examples, *(job.test.examples if job.test else ())]
    encoder = PromptEncoder.of(tokenizer, job.config)
    notes = prompt_notes(encoder, everything, job.config)
    ids = encoder.encode(everything)
    check_token_ids(model, own, tokenizer, everything, ids)
    wanted = job.config.rollout.max_completion_tokens
    room = LEAST_ROOM if isinstance(wanted, str) else min(wanted, LEAST_ROOM)
    long = [
        UsageError(
            f"{example.source}: the prompt has {len(prompt)} tokens; the model's context is {context}",
            "shorten or drop the row, or take a model with a longer context",
        )
        for example, prompt in zip(everything, ids, strict=True)
        if len(prompt) + room > context
    ]
    if long:
        raise UsageErrors(long[:20])
    references = None
    if trains and job.config.teaches:
        rows = job.train.examples
        references = reference_rows(encoder, rows, ids[: len(rows)], job.config.data.columns, context)
        check_token_ids(model, own, tokenizer, rows, references.completions, "reference")
    lengths = None if references is None else references.lengths
    limits = auto.LengthLimits(context, max(len(i) for i in ids), lengths)
    return Lengths(tokenizer, limits, notes, references)


def train(
    job: Job,
    run: Run,
    on_event: OnEvent,
    resume: bool = False,
    stop: Stop | None = None,
    lengths: Lengths | None = None,
) -> dict[str, Any]:
    """Run the job in this process (one of `WORLD_SIZE`); returns the result that run.json gets.

    `lengths`: what `check` returned, where it was called already.

    Raises UsageError for what only the model can show, RunFailed when grading fails too often, and Interrupted at the
    end of a step, its checkpoint committed, once `stop` was asked for.
    """
    quiet_libraries()
    state = group.join(job.config.distributed.collective_timeout_s)
    # Events of other processes than 0 are not shown.
    kept: OnEvent = KeptWarnings(run, on_event) if state.is_main_process else lambda _: None
    lengths = lengths or check(job)
    if not resume:
        for note in lengths.notes:
            kept(note)
    reported = reporting(job.config, run, kept) if state.is_main_process else nullcontext(kept)
    with ExitStack() as trackers:
        emit = group.agreed(lambda: trackers.enter_context(reported))
        return _train(job, run, lengths, emit, resume, stop or Stop(), state)


def _train(
    job: Job, run: Run, lengths: Lengths, emit: OnEvent, resume: bool, stop: Stop, state: PartialState
) -> dict[str, Any]:
    """From the model to the result."""
    wanted = engine_wanted(job, run, lengths.limits, state, emit, stop)
    model, resolution = load(job, lengths, state, emit)
    logs = run.path / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"grader-{state.process_index}.log"

    def opened(config: GraderConfig, log: Path) -> Grader:
        # brief: a resumed run, or a child process, does not know the path that was typed, and must log the same.
        return open_grader(config, log_path=log, seed=job.config.seed, brief=True, rows=job.shape())

    # Until the graders are closed: a signal in the middle of that would leave their processes behind.
    with stop.finishing(), ExitStack() as graders, first_use(model, run, resume):
        grader = graders.enter_context(in_background(group.agreed(partial(opened, job.config.grader, log))))
        if job.config.rollout.ahead and grader.in_place:
            emit(Note("rollout.ahead hides no grading here: a reward model runs on the device that trains"))
        guard, second = None, job.config.grader.of_guard()
        if second is not None:
            guard_log = logs / f"guard-{state.process_index}.log"
            guard = graders.enter_context(group.agreed(partial(opened, second, guard_log)))
        context = JobContext(job, lengths.tokenizer, lengths.limits, grader, emit, stop, guard)
        if wanted is not None:
            temperature = resolution.resolved.temperature
            context = graders.enter_context(with_engine(context, wanted, model, temperature))
        resolved = with_pilot(context, run, model, resolution, resume)
        precision.choose_attention(
            model,
            job.config.model.attention,
            state.device.type,
            resolved.compute,
            lengths.limits.longest_prompt + resolved.max_completion_tokens,
        )
        return run_training(context, run, model, resolved, lengths.references, resume)


def load(job: Job, lengths: Lengths, state: PartialState, emit: OnEvent) -> tuple[Any, Resolution]:
    """The base model and what the auto rules make of it."""
    config = job.config
    check_processes(job, state.num_processes)
    source = find_model(config.model.path, config.model.revision)
    facts, reasons = model_facts(config, state.device.type, state.num_processes)
    dtype = weights_dtype(config.model.dtype, facts.lora, state.device, facts.parameters)
    plugin = sharding.partition_at_load(source, facts.compute)
    model = load_policy(
        source, config.model, dtype, quantization.settings_of(config.lora, facts.compute, source)
    )
    sharding.keep(model, plugin)
    if facts.lora:
        # What is wrong with the targets is reported early.
        lora_targets(model, config.lora.target_modules)
    resolution = resolve(job, lengths.limits, facts)
    for reason in (*reasons, *resolution.reasons):
        if reason:
            emit(Note(reason))
    return model, resolution
