"""One job, from a checked configuration to a result: what `rft create` and `rft train` run in each process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from transformers import PreTrainedTokenizerBase, PrinterCallback

from rft_cli.config import RunConfig
from rft_cli.data import solution_of
from rft_cli.errors import RunFailed, UsageError, UsageErrors
from rft_cli.events import Finished, Note, OnEvent, Started
from rft_cli.grading.protocol import Grader
from rft_cli.job import Job
from rft_cli.report.result import build_result
from rft_cli.runs import Run
from rft_cli.training import auto, build, quiet
from rft_cli.training.graders import open_grader
from rft_cli.training.hf_args import Resolved
from rft_cli.training.journal import Journal
from rft_cli.training.models import (
    check_target_modules,
    context_length,
    count_parameters,
    find_model,
    load_config,
    load_model,
    load_tokenizer,
    stop_tokens,
    weights_dtype,
)
from rft_cli.training.prompts import encode, too_long, training_rows
from rft_cli.training.rewards import GraderReward
from rft_cli.training.sampling import SamplingSettings
from rft_cli.training.validation import Validator
from rft_cli.training.weights import load_checkpoint_weights

LEAST_ROOM = 8
"""Tokens a prompt must leave for its completion."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """What the tokenizer says of the job's rows."""

    tokenizer: PreTrainedTokenizerBase
    context: int
    longest_prompt: int
    longest_reference: int | None


def check(job: Job) -> Lengths:
    """The preflight that needs the tokenizer, before any weights load: prompts that leave no room are named."""
    quiet.libraries()
    tokenizer = load_tokenizer(job.config.model)
    context = context_length(load_config(job.config.model))
    everything = [*job.train.examples, *job.validation.examples, *(job.test.examples if job.test else ())]
    ids = encode(tokenizer, everything)
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
    columns = job.config.data.columns
    references = [r for e in everything if (r := solution_of(e, columns)) is not None]
    longest = (
        max((len(i) for i in tokenizer(text=references)["input_ids"]), default=None) if references else None
    )
    return Lengths(tokenizer, context, max(len(i) for i in ids), longest)


def train(job: Job, run: Run, on_event: OnEvent, resume: bool = False) -> dict[str, Any]:
    """Run the job in this process (one of `WORLD_SIZE`); returns the result that stands in run.json.

    Raises UsageError for what only the model can tell, RunFailed when grading fails too often.
    """
    quiet.libraries()
    state = PartialState(cpu=not torch.cuda.is_available())
    emit: OnEvent = on_event if state.is_main_process else _ignore
    lengths = check(job)
    model, resolved = _load(job, lengths, state, emit)
    log = run.path / "logs"
    log.mkdir(exist_ok=True)
    with open_grader(
        job.config.grader, log_path=log / f"grader-{state.process_index}.log", seed=job.config.seed
    ) as grader:
        return _train(job, run, emit, resume, model, resolved, lengths, grader)


def _ignore(_event: Any) -> None:
    """Processes other than 0 tell nobody."""


def _load(job: Job, lengths: Lengths, state: PartialState, emit: OnEvent) -> tuple[Any, Resolved]:
    """The base model and what the auto rules make of it."""
    config, rows = job.config, len(job.train.examples)
    if rows < state.num_processes:
        raise UsageError(
            f"{job.train.path} has {rows} rows for {state.num_processes} processes",
            "train with fewer processes, or with more rows",
        )
    source = find_model(config.model.path)
    parameters = build.parameters_of(config.model)
    lora = auto.use_lora(config.lora.enabled, parameters)
    auto.check_critic(config.ppo.critic, lora.value)
    model = load_model(source, config.model, weights_dtype(config.model.dtype, lora.value, state.device))
    if lora.value:
        check_target_modules(model, config.lora.target_modules)
    epochs = auto.n_epochs(config.optim.n_epochs, rows, config.rollout.group_size)
    rate = auto.learning_rate(config.optim.learning_rate, parameters, lora.value)
    prompts = auto.prompts_per_batch(config.rollout.prompts_per_batch, rows, state.num_processes)
    limit = auto.max_completion_tokens(
        config.rollout.max_completion_tokens,
        lengths.context,
        lengths.longest_prompt,
        lengths.longest_reference,
    )
    sizes = auto.batch_sizes(
        config.optim.micro_batch_size,
        prompts.value * config.rollout.group_size,
        config.ppo.minibatches,
        state.num_processes,
        parameters,
        state.device.type,
    )
    warmup = auto.critic_warmup(config.ppo.critic_warmup, rows // prompts.value * epochs.value)
    choices: list[auto.Chosen[Any]] = [lora, rate, epochs, prompts, limit, sizes]
    if config.algorithm == "ppo":
        choices.append(warmup)
    for chosen in choices:
        if chosen.reason:
            emit(Note(chosen.reason))
    checkpointing = config.model.gradient_checkpointing
    resolved = Resolved(
        lora=lora.value,
        learning_rate=rate.value,
        critic=config.ppo.critic,
        critic_learning_rate=auto.critic_learning_rate(
            config.ppo.critic_learning_rate, rate.value, config.ppo.critic == "shared"
        ).value,
        n_epochs=epochs.value,
        prompts_per_batch=prompts.value,
        max_completion_tokens=limit.value,
        micro_batch_size=sizes.value.micro,
        gradient_checkpointing=checkpointing
        if isinstance(checkpointing, bool)
        else state.device.type == "cuda" and parameters > 300_000_000,
        validate_every=auto.validate_every(config.validation.every_epochs, epochs.value),
        critic_warmup=warmup.value,
        world_size=state.num_processes,
        minibatches=sizes.value.minibatches,
    )
    return model, resolved


def _train(
    job: Job,
    run: Run,
    emit: OnEvent,
    resume: bool,
    model: Any,
    resolved: Resolved,
    lengths: Lengths,
    grader: Grader,
) -> dict[str, Any]:
    config, tokenizer = job.config, lengths.tokenizer
    stop = stop_tokens(model.config, model.generation_config, tokenizer)
    model.generation_config.eos_token_id = stop  # TRL samples with these: training and validation end alike
    reward = GraderReward(grader, job.train.examples, stop)
    rows = training_rows(job.train.examples, tokenizer)
    trainer = build.build_trainer(config, resolved, tokenizer, model, str(run.path), reward, rows)
    accelerator = trainer.accelerator
    validator = validation_settings(
        config, tokenizer, model, resolved.max_completion_tokens, accelerator, grader
    )
    every = config.checkpoint.every_steps
    journal = Journal(
        run,
        emit,
        validator,
        job.validation.examples,
        job.test.examples if job.test else None,
        resolved.validate_every,
        config.checkpoint.keep_last,
        None if isinstance(every, str) else every,
        config.grader.max_failure_rate,
    )
    reward.on_graded = journal.on_graded
    journal.trainer = trainer
    trainer.add_callback(journal)
    trainer.remove_callback(PrinterCallback)
    checkpoint = _newest(run) if resume else None
    emit(
        Started(
            config.model.path,
            count_parameters(model),
            sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            config.algorithm,
            accelerator.num_processes,
            trainer.total_steps(),
            resolved.n_epochs,
            str(accelerator.device),
        )
    )
    if checkpoint is not None:
        step = int(checkpoint.name.removeprefix("step-"))
        if accelerator.is_main_process:
            run.truncate_metrics(step)
            run.truncate_rollouts(step)
        accelerator.wait_for_everyone()
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        raise RunFailed(
            "training diverged: the model's probabilities are no numbers any more",
            f"lower optim.learning_rate (it was {resolved.learning_rate:g}), or raise ppo.kl_coef",
        ) from error
    best = run.best_checkpoint()
    if job.test is not None and best is not None:
        load_checkpoint_weights(trainer, best)
        journal.sample_test("test-after")
    accelerator.wait_for_everyone()
    result: dict[str, Any] = build_result(run)
    emit(Finished(result))
    return result


def validation_settings(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    model: Any,
    max_new_tokens: int,
    accelerator: Accelerator,
    grader: Grader,
) -> Validator:
    """The validation loop with the configuration's own sampling settings: the same in training and `rft validate`."""
    batch = config.validation.batch_size
    return Validator(
        accelerator=accelerator,
        tokenizer=tokenizer,
        grader=grader,
        settings=SamplingSettings(
            max_new_tokens=max_new_tokens,
            temperature=config.validation.temperature,
            top_p=config.validation.top_p,
            stop=tuple(stop_tokens(model.config, model.generation_config, tokenizer)),
            pad=int(tokenizer.pad_token_id),
        ),
        samples_per_prompt=config.validation.samples_per_prompt,
        batch_size=batch if not isinstance(batch, str) else (128 if accelerator.device.type == "cpu" else 64),
        seed=config.validation.seed,
    )


def _newest(run: Run) -> Path | None:
    steps = run.checkpoints()
    return run.checkpoint_path(steps[-1]) if steps else None
