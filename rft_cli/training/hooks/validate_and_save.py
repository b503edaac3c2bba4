"""When a job validates and saves: baseline, validations, the best checkpoint, checkpoints between, stop on request.

A callback of transformers' Trainer. All processes take part; only process 0 writes. A validation follows the checkpoint
of its step: a job that dies in between only has to sample again. Validations come between two rollout batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback

from rft_cli.events import Note, Progress, Validated
from rft_cli.report.estimates import estimate
from rft_cli.runs import Run
from rft_cli.stopping import interruption
from rft_cli.training.context import JobContext
from rft_cli.training.distributed.group import from_main, stop_asked
from rft_cli.training.hooks.guard_watch import GuardWatch
from rft_cli.training.hooks.saving import CheckpointWriter
from rft_cli.training.rollouts.validation import Validator
from rft_cli.types import Example, Sample

MOST_TRUNCATED = 0.1
"""Share of cut baseline completions above which the job warns."""


class ValidateAndSave(TrainerCallback):
    """See the module's docstring.

    `validate_every`: optimizer steps between validations; the last step is always validated. `on_samples` gets every
    validation's samples, on all processes.
    """

    def __init__(
        self,
        context: JobContext,
        run: Run,
        trainer: Any,
        writer: CheckpointWriter,
        validator: Validator,
        validate_every: int,
        on_samples: Callable[[Sequence[Sample]], None],
    ) -> None:
        self._context, self._run, self._trainer = context, run, trainer
        self._writer, self._validator, self._on_samples = writer, validator, on_samples
        job, every = context.job, context.config.checkpoint.every_steps
        self._rows = job.validation.examples
        self._test_rows = job.test.examples if job.test else None
        self._validate_every = validate_every
        # None leaves the checkpoints of the validations.
        self._save_every = None if isinstance(every, str) else every
        self._on_event, self.check_stop = context.emit, context.check_stop
        self._accelerator = validator.accelerator
        self._main = self._accelerator.is_main_process
        self._guard = GuardWatch(
            run, context.config.grader.on_guard_drop, context.guard is not None, context.emit
        )
        self._best_mean = float("-inf")
        self._stopped_by: int | None = None

    # -- transformers' calls -----------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Sample the baseline: the model is on its device now, and wrapped as it trains."""
        self.check_stop()
        step, epoch = state.global_step, float(state.epoch or 0.0)
        again = from_main(lambda: self._drop_incomplete(_name(step), self._rows))
        self._guard.begin()
        self._best_mean = from_main(lambda: self._settle_best(step))
        if step == 0:
            from_main(lambda: self._drop_incomplete("test-before", self._test_rows or ()))
            self.validate(0, 0.0)
            self.sample_test("test-before")
        elif again or self._due(state):
            self.validate(step, epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._stopped_by = stop_asked(self._context.stop)
        save = self._save_every and state.global_step % self._save_every == 0
        if self._stopped_by or save or self._due(state):
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The checkpoint of this step is committed."""
        if self._stopped_by:
            raise interruption(self._stopped_by)
        if self._due(state):
            self.validate(state.global_step, float(state.epoch))

    def _due(self, state: Any) -> bool:
        return state.global_step % self._validate_every == 0 or state.global_step >= state.max_steps

    # -- validations -------------------------------------------------------------------------------------------------

    def validate(self, step: int, epoch: float) -> None:
        """Sample and grade the validation rows; point `best` at the step if nothing was better. Step 0 is the base.

        Samples that a killed job has written are used as they are: they would be the same.
        """
        name = _name(step)
        samples = from_main(lambda: self._run.read_samples(name) if self._run.has_samples(name) else None)
        if samples is None:
            samples = self.sample(self._rows, self._what(step, epoch))
            if self._main:
                self._run.write_samples(name, samples)
        self._on_samples(samples)
        found = estimate(samples)
        best = step == 0 or (found.mean > self._best_mean and not self._guard.excludes(step, samples))
        if best:
            self._best_mean = found.mean
            if self._main:
                self._run.set_best(step)
        self._writer.rotate()
        self._accelerator.wait_for_everyone()
        if step == 0:
            self._warn_of_truncation(samples)
        self._on_event(
            Validated(step, epoch, found.mean, *found.ci95, found.n, best, self._guard.figures(samples))
        )
        if self._guard.warn(step, samples):
            raise self._guard.end(step, int(self._run.info.get("best_step") or 0))

    def _what(self, step: int, epoch: float) -> str:
        if step == 0:
            return "baseline"
        if epoch == round(epoch):
            return f"validation after epoch {epoch:g}"
        return f"validation after step {step}, {self._trainer.trained_on()}"

    def _drop_incomplete(self, name: str, rows: Sequence[Example]) -> bool:
        """Delete samples of this step where lines are missing: sampled again, they are the same.

        Those of earlier steps are in the checkpoint, and were compared with it.
        """
        if not self._run.has_samples(name):
            return False
        found, wanted = self._run.count_samples(name), len(rows) * self._validator.samples_per_prompt
        if found == wanted:
            return False
        text = f"validation/{name}.jsonl has {found} whole lines of {wanted}: they are sampled again"
        self._on_event(Note(text, "warning"))
        self._run.drop_samples(name)
        return True

    def _settle_best(self, step: int) -> float:
        """Point `best` where it pointed at `step`, by the validations until then; returns the mean reward to beat."""
        kept = {0, *self._run.checkpoints()}
        means = {
            done: estimate(samples).mean
            for done in self._run.validated_steps()
            if done <= step and done in kept
            for samples in (self._run.read_samples(_name(done)),)
            if not self._guard.excludes(done, samples)
        }
        best = max(means, key=means.__getitem__, default=None)
        self._run.set_best(best)
        return float("-inf") if best is None else means[best]

    def _warn_of_truncation(self, samples: Sequence[Sample]) -> None:
        share = sum(s.truncated for s in samples) / len(samples)
        if share > MOST_TRUNCATED:
            limit = self._validator.settings.max_new_tokens
            self._on_event(
                Note(
                    f"{share:.0%} of the baseline's completions were cut at {limit} tokens: "
                    "if they needed more room, set rollout.max_completion_tokens",
                    "warning",
                )
            )

    def sample_test(self, name: str) -> None:
        """Sample and keep the test rows, where there are any; they choose no checkpoint."""
        if self._test_rows is None or from_main(lambda: self._run.has_samples(name)):
            return
        samples = self.sample(self._test_rows, "test rows")
        if self._main:
            self._run.write_samples(name, samples)

    def sample(self, rows: Sequence[Example], what: str) -> list[Sample]:
        """Run the validation loop over any rows, with progress events; stops between two batches when asked to."""

        def progress(done: int, total: int) -> None:
            self._on_event(Progress(what, done, total))
            self.check_stop()

        return self._validator.run(self._trainer.model_wrapped, rows, progress)


def _name(step: int) -> str:
    return f"step-{step:06d}"
