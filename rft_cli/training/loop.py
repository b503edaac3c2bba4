"""The training itself: trainer, callbacks and run, from the first step or from a checkpoint on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import PrinterCallback

from rft_cli.events import Finished, Note, OnEvent, Started
from rft_cli.report.result import build_result
from rft_cli.runs import Run
from rft_cli.training import build, memory
from rft_cli.training.constant_completions import keep_constants
from rft_cli.training.context import JobContext
from rft_cli.training.distributed import sharding
from rft_cli.training.hf_args import Resolved
from rft_cli.training.hooks.divergence import explain_divergence
from rft_cli.training.hooks.journal import Journal
from rft_cli.training.hooks.saving import JOURNAL, CheckpointWriter
from rft_cli.training.hooks.slow_grader import SlowGraderWarning
from rft_cli.training.hooks.tripwires import TripwireMonitor, Tripwires
from rft_cli.training.hooks.validate_and_save import ValidateAndSave
from rft_cli.training.models import count_parameters
from rft_cli.training.probes import keep_probes
from rft_cli.training.rollouts.prompts import PromptEncoder, training_rows
from rft_cli.training.rollouts.rewards import GraderReward
from rft_cli.training.rollouts.validation import validator_of
from rft_cli.training.sft.reference_rows import ReferenceRows
from rft_cli.training.stop_tokens import stop_tokens


def run_training(
    context: JobContext,
    run: Run,
    model: Any,
    resolved: Resolved,
    references: ReferenceRows | None,
    resume: bool,
) -> dict[str, Any]:
    """Train `model` as `resolved` says; process 0 returns the run's result, the others {}. All processes call this.

    `references`: what sft learns from; None for algorithms with rollouts.
    """
    job, config = context.job, context.config
    trainer, reward = _build(context, run, model, resolved, references)
    accelerator = trainer.accelerator
    sharding.check_sharded(accelerator)
    sharding.gather_when_saving(accelerator)
    judged = context.grader.stats.judges is not None
    emit = SlowGraderWarning(
        context.emit, config.grader, judged, accelerator.num_processes, config.rollout.ahead
    )
    context = replace(context, emit=emit)
    trainer.on_note = emit
    _use_engine(context, trainer)
    tripwires = Tripwires(config.tripwires, config.algorithm, resolved.max_completion_tokens)
    monitor = TripwireMonitor(tripwires, config.tripwires.action, run, emit, accelerator.process_index)
    journal = Journal(run, emit, accelerator, config.grader.max_failure_rate, monitor)
    trainer.max_skipped_steps = config.optim.max_skipped_steps
    reward.on_graded = journal.on_graded
    writer = CheckpointWriter(run, trainer, config.checkpoint.keep_last, journal.to_json)
    shrinks = partial(getattr, trainer, "shrinks")
    validator = validator_of(context, model, resolved.max_completion_tokens, accelerator, shrinks)
    validations = ValidateAndSave(
        context, run, trainer, writer, validator, resolved.validate_every, journal.on_validated
    )
    trainer.add_callback(journal)
    trainer.add_callback(validations)
    trainer.remove_callback(PrinterCallback)
    checkpoint = _return_to_newest(run, journal, accelerator, emit) if resume else None
    emit(_started(context, run, model, trainer))
    with (
        explain_divergence(run, resolved.learning_rate, resolved.critic_learning_rate, config.teaches),
        memory.explain(memory.in_training(resolved.micro_batch_size, config.teaches)),
    ):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    context.check_stop()
    best = run.best_checkpoint()
    if job.test is not None and best is not None:
        with memory.explain(memory.SAMPLING):
            trainer.load_weights(best)
            validations.sample_test("test-after")
    keep_constants(context, run)
    keep_probes(context, run)
    if not accelerator.is_main_process:
        return {}
    result: dict[str, Any] = build_result(run)
    emit(Finished(result))
    return result


def _build(
    context: JobContext, run: Run, model: Any, resolved: Resolved, references: ReferenceRows | None
) -> tuple[Any, GraderReward]:
    """The trainer with its model on the device, and its reward function."""
    config, tokenizer, rows = context.config, context.tokenizer, context.job.train.examples
    stop_ids = stop_tokens(model.config, model.generation_config, tokenizer)
    # TRL samples with these: training and validation end alike.
    model.generation_config.eos_token_id = stop_ids
    reward = GraderReward(context.grader, rows, stop_ids, PromptEncoder.of(tokenizer, config))
    common = (config, resolved, tokenizer, model, str(run.path))
    with memory.explain(memory.WEIGHTS):
        if references is not None:
            return build.build_sft(*common, references.dataset()), reward
        return build.build_trainer(*common, reward, training_rows(rows)), reward


def _use_engine(context: JobContext, trainer: Any) -> None:
    """Have the trainer sample from the job's engine, where it has one."""
    engine, config = context.engine, context.config
    if engine is not None:
        engine.at_step = lambda: int(trainer.state.global_step)
        trainer.engine, trainer.wires = engine, config.tripwires
        trainer.importance_cap = config.rollout.importance_cap


def _started(context: JobContext, run: Run, model: Any, trainer: Any) -> Started:
    steps = _total_steps(trainer)
    accelerator = trainer.accelerator
    return Started(
        context.config.model.path,
        count_parameters(model),
        count_parameters(trainer.model, trained=True),
        context.config.algorithm,
        accelerator.num_processes,
        steps,
        steps / trainer.steps_an_epoch(),
        str(accelerator.device),
        figures=_figures(run, context.config.teaches) if accelerator.is_main_process else (),
    )


def _total_steps(trainer: Any) -> int:
    """Optimizer steps of the whole job."""
    whole = int(trainer.steps_an_epoch() * trainer.args.num_train_epochs)
    return whole if trainer.args.max_steps < 0 else min(whole, trainer.args.max_steps)


def _figures(run: Run, teaches: bool) -> tuple[float, ...]:
    """The training reward of each step until now; under sft the loss."""
    found = (row.get("loss" if teaches else "reward") for row in run.metrics())
    return tuple(float(figure) for figure in found if isinstance(figure, int | float))


def _return_to_newest(run: Run, journal: Journal, accelerator: Accelerator, emit: OnEvent) -> Path | None:
    """Make the run what it was at its newest checkpoint, and return that; None where it has none and starts over."""
    steps = run.checkpoints()
    step = steps[-1] if steps else 0
    checkpoint = run.checkpoint_path(step) if steps else None
    if checkpoint is not None:
        journal.restore((checkpoint / JOURNAL).read_text(encoding="utf-8"))
    if accelerator.is_main_process:
        run.truncate(step)
        _warn_of_lost_lines(run, step, emit)
    accelerator.wait_for_everyone()
    return checkpoint


def _warn_of_lost_lines(run: Run, step: int, emit: OnEvent) -> None:
    there = {row.get("step") for row in run.metrics()}
    lost = [number for number in range(1, step + 1) if number not in there]
    if lost:
        named = ", ".join(map(str, lost[:10])) + (", ..." if len(lost) > 10 else "")
        text = f"{run.metrics_path} has no line for step {named}: it can't be made again; training is not affected"
        emit(Note(text, "warning"))
