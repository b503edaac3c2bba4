"""Writes a job's checkpoints: all processes save their parts, process 0 commits them as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rft_cli.runs import Run
from rft_cli.training.distributed.group import from_main
from rft_cli.training.hooks.divergence import check_finite

JOURNAL = "journal.json"
"""The counters of the journal, in each checkpoint."""


class CheckpointWriter:
    """Commits checkpoints of `trainer` into `run`; all processes call `save` at the same step."""

    def __init__(self, run: Run, trainer: Any, keep_last: int, journal: Callable[[], str]) -> None:
        self._run, self._trainer, self._keep_last, self._journal = run, trainer, keep_last, journal
        trainer.write_checkpoint = self.save

    def save(self) -> None:
        """Commit a checkpoint of this step, unless there is one, and delete those that are not kept."""
        accelerator, step = self._trainer.accelerator, self._trainer.state.global_step
        partial = from_main(
            lambda: None if step in self._run.checkpoints() else self._run.begin_checkpoint(step)
        )
        if partial is None:
            return
        check_finite(self._trainer)
        main = accelerator.is_main_process
        with self._run.writing(self._run.checkpoint_path(step)):
            self._trainer.save_into(partial)
            if main:
                # A pickle that may carry tokens.
                (partial / "training_args.bin").unlink(missing_ok=True)
                (partial / JOURNAL).write_text(self._journal(), encoding="utf-8")
        if main:
            self._run.commit_checkpoint(step, partial)
            self._run.rotate(self._keep_last)
        accelerator.wait_for_everyone()

    def rotate(self) -> None:
        """Delete checkpoints that are no longer kept: another one may be the best now."""
        if self._trainer.accelerator.is_main_process:
            self._run.rotate(self._keep_last)
