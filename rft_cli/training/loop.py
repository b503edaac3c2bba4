"""The training itself: trainer, callbacks and run put together, from the first step or from a checkpoint on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase, PrinterCallback

from rft_cli.events import Finished, Note, OnEvent, Started
from rft_cli.grading.protocol import Grader
from rft_cli.job import Job
from rft_cli.report.result import build_result
from rft_cli.runs import Run
from rft_cli.stopping import Stop
from rft_cli.training import build, memory
from rft_cli.training.constants import keep_constants
from rft_cli.training.hf_args import Resolved
from rft_cli.training.hooks.alarms import Alarms
from rft_cli.training.hooks.divergence import told
from rft_cli.training.hooks.grading_cost import GradingCost
from rft_cli.training.hooks.journal import Journal
from rft_cli.training.hooks.milestones import Milestones
from rft_cli.training.hooks.saving import JOURNAL, CheckpointWriter
from rft_cli.training.hooks.tripwires import Tripwires
from rft_cli.training.models import count_parameters, stop_tokens
from rft_cli.training.rollouts.prompts import PromptEncoder, training_rows
from rft_cli.training.rollouts.rewards import GraderReward
from rft_cli.training.rollouts.validation import validator_of
from rft_cli.training.sft.rows import TaughtRows


def run_training(
    job: Job,
    run: Run,
    emit: OnEvent,
    resume: bool,
    model: Any,
    resolved: Resolved,
    tokenizer: PreTrainedTokenizerBase,
    grader: Grader,
    stop: Stop,
    taught: TaughtRows | None = None,
) -> dict[str, Any]:
    """Train `model` as `resolved` says; process 0 returns the run's result, the others {}. All processes call this.

    `taught`: what sft learns from; None where rollouts are.
    """
    config = job.config
    stop_ids = stop_tokens(model.config, model.generation_config, tokenizer)
    model.generation_config.eos_token_id = (
        stop_ids  # TRL samples with these: training and validation end alike
    )
    reward = GraderReward(grader, job.train.examples, stop_ids, PromptEncoder.of(tokenizer, config))
    common = (config, resolved, tokenizer, model, str(run.path))
    with memory.told(memory.WEIGHTS):
        if taught is not None:
            trainer = build.build_sft(*common, taught.dataset())
        else:
            trainer = build.build_trainer(*common, reward, training_rows(job.train.examples))
    accelerator = trainer.accelerator
    emit = GradingCost(emit, config.grader, grader.stats.judges is not None, accelerator.num_processes)
    trainer.on_note = emit
    wires = Tripwires(config.tripwires, config.algorithm, resolved.max_completion_tokens)
    alarms = Alarms(wires, config.tripwires.action, run, emit, accelerator.process_index)
    journal = Journal(run, emit, accelerator, grader, config.grader.max_failure_rate, alarms)
    trainer.max_skipped_steps = config.optim.max_skipped_steps
    reward.on_graded = journal.on_graded
    every = config.checkpoint.every_steps
    writer = CheckpointWriter(run, trainer, config.checkpoint.keep_last, journal.to_json)
    milestones = Milestones(
        run,
        trainer,
        writer,
        validator_of(
            config,
            tokenizer,
            model,
            resolved.max_completion_tokens,
            accelerator,
            grader,
            lambda: trainer.shrinks,
        ),
        job.validation.examples,
        job.test.examples if job.test else None,
        validate_every=resolved.validate_every,
        save_every=None if isinstance(every, str) else every,
        on_samples=journal.on_validated,
        on_event=emit,
        stop=stop,
    )
    trainer.add_callback(journal)
    trainer.add_callback(milestones)
    trainer.remove_callback(PrinterCallback)
    checkpoint = _return_to_newest(run, journal, accelerator, emit) if resume else None
    emit(
        Started(
            config.model.path,
            count_parameters(model),
            sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            config.algorithm,
            accelerator.num_processes,
            trainer.total_steps(),
            trainer.total_steps() / trainer.steps_an_epoch(),
            str(accelerator.device),
            figures=_figures(run, config.teaches) if accelerator.is_main_process else (),
        )
    )
    with (
        told(run, resolved.learning_rate, resolved.critic_learning_rate, config.teaches),
        memory.told(memory.in_training(resolved.micro_batch_size, config.teaches)),
    ):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    milestones.check_stop()
    best = run.best_checkpoint()
    if job.test is not None and best is not None:
        with memory.told(memory.SAMPLING):
            _load_weights(trainer, best)
            milestones.sample_test("test-after")
    keep_constants(job, run, grader, emit, milestones.check_stop)
    if not accelerator.is_main_process:
        return {}
    result: dict[str, Any] = build_result(run)
    emit(Finished(result))
    return result


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
        _tell_lost_lines(run, step, emit)
    accelerator.wait_for_everyone()
    return checkpoint


def _load_weights(trainer: Any, checkpoint: Path) -> None:
    """Put the policy's saved weights into the model that trains, whatever wraps it: what was saved is tested."""
    trainer._load_from_checkpoint(
        str(checkpoint), model=trainer.model_wrapped if trainer.is_fsdp_enabled else None
    )


def _tell_lost_lines(run: Run, step: int, emit: OnEvent) -> None:
    there = {row.get("step") for row in run.metrics()}
    lost = [number for number in range(1, step + 1) if number not in there]
    if lost:
        named = ", ".join(map(str, lost[:10])) + (", ..." if len(lost) > 10 else "")
        text = f"{run.metrics_path} has no line for step {named}: it can't be made again; training goes on the same"
        emit(Note(text, "warning"))
