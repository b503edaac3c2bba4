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
from rft_cli.runs.sources import find_model
from rft_cli.runs.warnings import KeptWarnings
from rft_cli.stopping import Stop
from rft_cli.training import auto, build, precision, quiet, schedule
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
from rft_cli.training.rollouts.prompts import encode, too_long
from rft_cli.training.rollouts.waves import Room

LEAST_ROOM = 8
"""Tokens a prompt must leave for its completion."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """What the tokenizer says of the job's rows."""

    tokenizer: PreTrainedTokenizerBase
    context: int
    longest_prompt: int

    @property
    def room(self) -> Room:
        return Room(self.context, self.longest_prompt)


def check(job: Job) -> Lengths:
    """The preflight that needs the tokenizer, before any weights load: prompts that leave no room are named."""
    quiet.libraries()
    model, own = job.config.model.path, load_config(job.config.model)
    check_architecture(model, own)
    tokenizer = load_tokenizer(job.config.model)
    context = context_length(own)
    everything = [*job.train.examples, *job.validation.examples, *(job.test.examples if job.test else ())]
    ids = encode(tokenizer, everything)
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
    return Lengths(tokenizer, context, max(len(i) for i in ids))


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
    model, resolved = _load(job, lengths, state, emit)
    log = run.path / "logs"
    log.mkdir(exist_ok=True)
    own_log = log / f"grader-{state.process_index}.log"
    stop = stop or Stop()

    def opened() -> Grader:
        # brief: a resumed run, or a child process, knows the path that was typed no more, and must write the same.
        return open_grader(job.config.grader, log_path=own_log, seed=job.config.seed, brief=True)

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
            schedule.course_of(job, count_parameters(model), state.num_processes),
            grader,
            emit,
            stop,
            resume,
        )
        return run_training(job, run, emit, resume, model, resolved, lengths.tokenizer, grader, stop)


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
    auto.check_critic(config.ppo.critic, lora.value)
    dtype, device = config.model.dtype, state.device.type
    compute = precision.compute_dtype(dtype, device, precision.has_bfloat16(device, parameters))
    precision.check_critic(compute, config.algorithm, config.ppo.critic)
    model = load_policy(source, config.model, weights_dtype(dtype, lora.value, state.device, parameters))
    if lora.value:
        lora_targets(model, config.lora.target_modules)  # what is wrong with them is told early
    rate = auto.learning_rate(config.optim.learning_rate, parameters, lora.value)
    prompts = auto.prompts_per_batch(config.rollout.prompts_per_batch, rows, state.num_processes)
    limit = auto.max_completion_tokens(
        config.rollout.max_completion_tokens,
        lengths.context,
        lengths.longest_prompt,
        None,
    )
    sizes = auto.batch_sizes(
        config.optim.micro_batch_size,
        prompts.value * config.rollout.group_size,
        config.ppo.minibatches,
        state.num_processes,
        parameters,
        state.device.type,
    )
    steps = sizes.value.minibatches * config.ppo.passes
    plan = schedule.Batches(rows, prompts.value, config.rollout.group_size, steps)
    batches = schedule.length(
        config.optim.n_epochs, config.optim.max_steps, plan, auto.completions_wanted(parameters)
    )
    validations = schedule.validate_every(
        config.validation.every_completions,
        config.validation.every_epochs,
        len(job.validation.examples) * config.validation.samples_per_prompt,
        plan,
        batches.value,
    )
    warmup = auto.critic_warmup(config.ppo.critic_warmup, batches.value)
    choices: list[auto.Chosen[Any]] = [lora, rate, prompts, sizes, batches, validations]
    if config.algorithm == "ppo":
        choices.append(warmup)
    for reason in (precision.told(dtype, lora.value, compute), *(chosen.reason for chosen in choices)):
        if reason:
            emit(Note(reason))
    checkpointing = config.model.gradient_checkpointing
    resolved = Resolved(
        lora=lora.value,
        learning_rate=rate.value,
        critic=config.ppo.critic,
        critic_learning_rate=auto.critic_learning_rate(
            config.ppo.critic_learning_rate, rate.value, config.ppo.critic == "shared"
        ).value,
        n_epochs=plan.begun(batches.value),
        max_steps=batches.value * steps,
        validate_every=validations.value * steps,
        prompts_per_batch=prompts.value,
        max_completion_tokens=limit.value,
        micro_batch_size=sizes.value.micro,
        gradient_checkpointing=checkpointing
        if isinstance(checkpointing, bool)
        else state.device.type == "cuda" and parameters > 300_000_000,
        critic_warmup=warmup.value,
        world_size=state.num_processes,
        minibatches=sizes.value.minibatches,
        compute=compute,
    )
    return model, resolved
