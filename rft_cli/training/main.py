"""One job, from a checked configuration to a result: what `rft create` and `rft train` run in each process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedTokenizerBase

from rft_cli.errors import UsageError, UsageErrors
from rft_cli.events import Note, OnEvent
from rft_cli.grading.protocol import Grader
from rft_cli.job import Job
from rft_cli.runs import Run
from rft_cli.runs.model_source import find_model
from rft_cli.runs.warnings import KeptWarnings
from rft_cli.stopping import Stop
from rft_cli.training import auto, build, precision, quiet, schedule
from rft_cli.training.attention import choose_attention
from rft_cli.training.distributed import group
from rft_cli.training.graders import open_grader
from rft_cli.training.hf_args import Resolved
from rft_cli.training.loop import run_training
from rft_cli.training.lora import lora_targets
from rft_cli.training.models import (
    context_length,
    count_parameters,
    load_config,
    load_policy,
    load_tokenizer,
    weights_dtype,
)
from rft_cli.training.pilot import settle
from rft_cli.training.refusals import check_architecture, check_token_ids, first_use
from rft_cli.training.resolve import Found, resolve_rollouts, resolve_teaching
from rft_cli.training.rollouts.findings import Findings, findings
from rft_cli.training.rollouts.prompts import PromptEncoder, too_long
from rft_cli.training.rollouts.waves import Room
from rft_cli.training.sft.rows import TaughtRows, taught_rows

LEAST_ROOM = 8
"""Tokens a prompt must leave for its completion."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """What the tokenizer says of the job's rows.

    `findings` are for people; `taught`: under sft, the training rows as tokens to learn.
    """

    tokenizer: PreTrainedTokenizerBase
    context: int
    longest_prompt: int
    findings: Findings
    taught: TaughtRows | None = None

    @property
    def room(self) -> Room:
        taught = None if self.taught is None else self.taught.lengths
        return Room(self.context, self.longest_prompt, taught)


def check(job: Job, trains: bool = True) -> Lengths:
    """The preflight that needs the tokenizer, before any weights load: prompts that leave no room are named.

    Where the job `trains` with sft, so are references that are too long.
    """
    quiet.libraries()
    model, own = job.config.model.path, load_config(job.config.model)
    check_architecture(model, own)
    tokenizer = load_tokenizer(job.config.model)
    context = context_length(own)
    everything = [*job.train.examples, *job.validation.examples, *(job.test.examples if job.test else ())]
    encoder = PromptEncoder.of(tokenizer, job.config)
    found = findings(encoder, everything, job.config)
    ids = encoder.encode(everything)
    check_token_ids(model, own, tokenizer, everything, ids)
    wanted = job.config.rollout.max_completion_tokens
    room = LEAST_ROOM if isinstance(wanted, str) else min(wanted, LEAST_ROOM)
    long = too_long(everything, ids, context, room)
    if long:
        raise UsageErrors(
            [
                UsageError(
                    f"{p.example.source}: the prompt has {p.tokens} tokens; the model's context is {context}",
                    "shorten or drop the row, or take a model with a longer context",
                )
                for p in long[:20]
            ]
        )
    taught = None
    if trains and job.config.teaches:
        rows = job.train.examples
        taught = taught_rows(encoder, rows, ids[: len(rows)], job.config.data.columns, context)
        check_token_ids(model, own, tokenizer, rows, taught.completions, "reference")
    return Lengths(tokenizer, context, max(len(i) for i in ids), found, taught)


def train(
    job: Job,
    run: Run,
    on_event: OnEvent,
    resume: bool = False,
    stop: Stop | None = None,
    lengths: Lengths | None = None,
) -> dict[str, Any]:
    """Run the job in this process (one of `WORLD_SIZE`); returns the result that stands in run.json.

    `lengths`: what `check` has found already.

    Raises UsageError for what only the model can tell, RunFailed when grading fails too often, and Interrupted at the
    end of a step, its checkpoint committed, once `stop` was asked for.
    """
    quiet.libraries()
    state = group.join(job.config.distributed.collective_timeout_s)
    emit: OnEvent = KeptWarnings(run, on_event) if state.is_main_process else _ignore
    lengths = lengths or check(job)
    if not resume:
        lengths.findings.tell(emit)
    model, resolved = _load(job, lengths, state, emit)
    log = run.path / "logs"
    log.mkdir(exist_ok=True)
    own_log = log / f"grader-{state.process_index}.log"
    stop = stop or Stop()

    def opened() -> Grader:
        # brief: a resumed run, or a child process, knows the path that was typed no more, and must write the same.
        return open_grader(
            job.config.grader, log_path=own_log, seed=job.config.seed, brief=True, rows=job.shape()
        )

    # Until the grader is closed: a signal in the middle of that would leave its processes' things behind.
    worked = partial(_has_stepped, run, resume)
    with stop.finishing(), group.agreed(opened) as grader, first_use(model, worked):
        resolved = settle(
            job,
            run,
            model,
            lengths.tokenizer,
            lengths.room,
            resolved,
            None
            if job.config.teaches
            else schedule.course_of(job, count_parameters(model), state.num_processes),
            grader,
            emit,
            stop,
            resume,
        )
        tokens = lengths.longest_prompt + resolved.max_completion_tokens
        choose_attention(model, job.config.model.attention, state.device.type, resolved.compute, tokens)
        tokenizer, taught = lengths.tokenizer, lengths.taught
        return run_training(job, run, emit, resume, model, resolved, tokenizer, grader, stop, taught)


def _has_stepped(run: Run, resume: bool) -> bool:
    return resume or any(True for _ in run.metrics())


def _ignore(_event: Any) -> None:
    """Processes other than 0 tell nobody."""


def _load(job: Job, lengths: Lengths, state: PartialState, emit: OnEvent) -> tuple[Any, Resolved]:
    """The base model and what the auto rules make of it; the limit of a completion is that of a job without a pilot."""
    config, rows = job.config, len(job.train.examples)
    if rows < state.num_processes:
        raise UsageError(
            f"{job.train.path} has {rows} rows for {state.num_processes} processes",
            "train with fewer processes, or with more rows",
        )
    source = find_model(config.model.path, config.model.revision)
    parameters = build.parameters_of(config.model)
    lora = auto.use_lora(config.lora.enabled, parameters)
    dtype, device = config.model.dtype, state.device.type
    compute = precision.compute_dtype(dtype, device, precision.has_bfloat16(device, parameters))
    if config.algorithm == "ppo":
        auto.check_critic(config.ppo.critic, lora.value)
        precision.check_critic(compute, config.algorithm, config.ppo.critic)
    model = load_policy(source, config.model, weights_dtype(dtype, lora.value, state.device, parameters))
    if lora.value:
        lora_targets(model, config.lora.target_modules)  # what is wrong with them is told early
    resolve = resolve_teaching if config.teaches else resolve_rollouts
    resolved, reasons = resolve(job, lengths.room, Found(parameters, lora.value, state, compute))
    for reason in (precision.told(dtype, lora.value, compute), lora.reason, *reasons):
        if reason:
            emit(Note(reason))
    return model, resolved
