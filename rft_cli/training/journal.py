"""What training writes down: metrics.jsonl, rollouts, validations, checkpoints, and the events people see.

A callback of transformers' Trainer. Only process 0 writes; all processes take part in validation and saving.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback

from rft_cli.errors import RunFailed
from rft_cli.events import Note, OnEvent, Progress, Stepped, Validated
from rft_cli.grading import FailureMonitor, GraderStats
from rft_cli.report.estimates import estimate
from rft_cli.runs import Run
from rft_cli.training.rewards import GradedBatch
from rft_cli.training.validation import Validator
from rft_cli.types import Example, Sample

RENAMED = {
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "constant_groups",
    "completions/mean_length": "completion_tokens",
    "completions/clipped_ratio": "truncated",
    "clip_ratio/region_mean": "clip_fraction",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "loss": "loss",
}
"""TRL's and transformers' names -> ours; other names of ours come from the PPO trainer as they are."""

OWN = (
    "kl", "kl_k3", "kl_per_token", "ratio", "clip_fraction", "explained_variance", "value_loss", "policy_loss",
    "return_mean", "return_std", "rollout_seconds",
)  # fmt: skip

PER_ROLLOUT = (
    "reward", "reward_std", "constant_groups", "completion_tokens", "truncated", "kl", "kl_k3", "kl_per_token",
    "explained_variance", "return_mean", "return_std", "rollout_seconds", "grade_seconds",
)  # fmt: skip
"""Measured once a rollout batch; the lines of its later steps repeat them."""

MOST_TRUNCATED = 0.1
"""Share of cut baseline completions above which the job warns."""


class Journal(TrainerCallback):
    """See the module's docstring. `trainer` is set after the trainer exists."""

    trainer: Any = None

    def __init__(
        self,
        run: Run,
        on_event: OnEvent,
        validator: Validator,
        validation_rows: Sequence[Example],
        test_rows: Sequence[Example] | None,
        validate_every: int,
        keep_last: int,
        save_every: int | None,
        max_failure_rate: float,
    ) -> None:
        self._run, self._on_event, self._validator = run, on_event, validator
        self._rows, self._test_rows = validation_rows, test_rows
        self._validate_every, self._keep_last, self._save_every = validate_every, keep_last, save_every
        self._monitor = FailureMonitor(max_failure_rate)
        self._main = validator.accelerator.is_main_process
        self._per_rollout: dict[str, float | None] = {}
        self._counts: Counter[str] = Counter()
        self._judges_before: dict[str, float] = {}
        self._started = monotonic()
        self._first_step = 0
        self._last_log = monotonic()

    # -- rollouts ----------------------------------------------------------------------------------------------------

    def on_graded(self, batch: GradedBatch) -> None:
        """Count, keep and measure one rollout batch's grades; every process calls this once a batch."""
        world = self._validator.accelerator.num_processes
        samples: list[Sample] = gather_object(batch.samples) if world > 1 else batch.samples
        self._monitor.observe([s.grade for s in samples])  # the same on every process: they stop together
        self._counts.update(s.grade.status for s in samples)
        graded = [s.grade for s in samples if s.grade.status == "graded"]
        names = sorted({name for g in graded for name in g.components})
        for name in names:
            values = [g.components[name] for g in graded if name in g.components]
            self._per_rollout[f"reward/{name}"] = sum(values) / len(values)
        stats = GraderStats()
        stats.add(s.grade for s in samples)
        kinds = [name for name in self._per_rollout if name.startswith("grader_failed/")]
        self._per_rollout.update({**dict.fromkeys(kinds, 0), **stats.figures()})
        self._per_rollout["grade_seconds"] = batch.seconds
        judges = self._validator.grader.stats.judges
        own: list[dict[str, float]] = [{} if judges is None else judges.to_metrics()]
        asked = gather_object(own) if world > 1 else own
        self._per_rollout.update(_added_up([self._judges_before, *asked]))
        if self._main:
            self._run.write_rollouts(self.trainer.state.global_step, [s.to_json() for s in samples])

    # -- steps -------------------------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The baseline is sampled here, where the model is on its device and wrapped as it will be trained."""
        if state.global_step == 0:
            self.validate(0, 0.0)
            self.sample_test("test-before")
        self._started = self._last_log = monotonic()
        self._first_step = state.global_step
        self._counts = Counter(row["grade"]["status"] for row in self._run.rollouts())
        lines = self._run.metrics()
        if lines:  # a resumed job goes on counting
            self._judges_before = {k: v for k, v in lines[-1].items() if k.startswith("judge_")}

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """One line of metrics.jsonl a step; transformers' last log, which sums up the job, is no step."""
        if logs is None or "train_runtime" in logs:
            return
        named = {ours: logs[theirs] for theirs, ours in RENAMED.items() if theirs in logs}
        named |= {name: logs[name] for name in OWN if name in logs}
        self._per_rollout.update({k: v for k, v in named.items() if k in PER_ROLLOUT})
        now = monotonic()
        metrics: dict[str, float | None] = {**self._per_rollout, **named}
        metrics["completions"] = sum(self._counts.values())
        metrics["step_seconds"] = now - self._last_log
        if "rollout_seconds" in named:
            metrics["update_seconds"] = now - self._last_log - float(named["rollout_seconds"] or 0.0)
        else:
            metrics["update_seconds"] = now - self._last_log
        self._last_log = now
        epoch = float(state.epoch or 0.0)
        if self._main:
            self._run.append_metrics({"step": state.global_step, "epoch": round(epoch, 4), **metrics})
        done = state.global_step - self._first_step
        left = (now - self._started) / max(done, 1) * (state.max_steps - state.global_step)
        self._on_event(Stepped(state.global_step, state.max_steps, epoch, metrics, left))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._save_every and state.global_step % self._save_every == 0:
            self.save()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        epoch = round(float(state.epoch or 0.0))
        if epoch % self._validate_every == 0 or state.global_step >= state.max_steps:
            self.validate(state.global_step, float(epoch))
            self._last_log = monotonic()

    # -- validation and checkpoints ----------------------------------------------------------------------------------

    def validate(self, step: int, epoch: float) -> None:
        """Sample and grade the validation rows; keep the checkpoint if nothing was better. Step 0 is the base."""
        what = "baseline" if step == 0 else f"validation after epoch {epoch:g}"
        samples = self.sample(self._rows, what)
        self._monitor.observe([s.grade for s in samples])
        found = estimate(samples)
        info = self._run.info
        best = step == 0 or found.mean > float(info.get("best_mean", float("-inf")))
        self._barrier()
        if self._main:
            self._run.write_samples(f"step-{step:06d}", samples)
            if best:
                self._run.update(best_mean=found.mean)
        if step > 0:
            self.save()
            if best and self._main:
                self._run.set_best(step)
        if self._main:
            self._run.rotate(self._keep_last)
        self._barrier()
        if step == 0:
            self._warn_of_truncation(samples)
        self._on_event(Validated(step, epoch, found.mean, *found.ci95, found.n, best))

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
        """Sample and keep the test rows, where there are any: nothing is chosen by them."""
        if self._test_rows is None:
            return
        samples = self.sample(self._test_rows, "test rows")
        if self._main:
            self._run.write_samples(name, samples)

    def sample(self, rows: Sequence[Example], what: str) -> list[Sample]:
        """The validation loop over any rows, with progress events."""
        model = self.trainer.model_wrapped
        return self._validator.run(
            model, rows, lambda done, total: self._on_event(Progress(what, done, total))
        )

    def save(self) -> None:
        """Commit a checkpoint of this step, unless there is one."""
        trainer: Any = self.trainer
        step = trainer.state.global_step
        done = step in self._run.checkpoints()
        self._barrier()
        if done:
            return
        folder = [str(self._run.begin_checkpoint(step))] if self._main else [""]
        if self._validator.accelerator.num_processes > 1:
            folder = gather_object(folder)[:1]
        partial = Path(folder[0])
        trainer.save_into(partial)
        self._barrier()
        if self._main:
            _tidy(partial)
            self._run.commit_checkpoint(step, partial)
        self._barrier()

    def _barrier(self) -> None:
        self._validator.accelerator.wait_for_everyone()


def _added_up(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sum of each number over the parts that have it."""
    names = sorted({name for part in parts for name in part})
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def _tidy(folder: Path) -> None:
    """Drop what a checkpoint must not hold: a pickle that may carry tokens, and the critic's PEFT copy."""
    (folder / "training_args.bin").unlink(missing_ok=True)
    if (folder / "critic").is_dir():
        shutil.rmtree(folder / "critic")


class SavesInto(Trainer):
    """Lets the journal choose a checkpoint's directory: transformers makes checkpoint-STEP in one of its own."""

    _target: Path | None = None

    def save_into(self, folder: Path) -> None:
        """Everything a resumed job needs, written into `folder` by all processes."""
        if self._target is not None:
            raise RunFailed("a checkpoint is being written already")
        self._target = folder
        try:
            Trainer._save_checkpoint(
                self, self.model_wrapped, None
            )  # TRL's override writes a model card first
        finally:
            self._target = None
        inner = folder / f"checkpoint-{self.state.global_step}"
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            for item in inner.iterdir():
                item.rename(folder / item.name)
            inner.rmdir()

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._target is None else str(self._target)
