"""Checkpoints as a job writes them: all processes save their parts, process 0 commits them as one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import Trainer

from rft_cli.runs import Run
from rft_cli.training.distributed.group import from_main
from rft_cli.training.dropout import own_rates
from rft_cli.training.generation import FILE, blank_generation_config, write_generation_config
from rft_cli.training.hooks.divergence import check_finite

JOURNAL = "journal.json"
"""What the journal of the job has counted, in each checkpoint."""


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
                _tidy(partial)
                (partial / JOURNAL).write_text(self._journal(), encoding="utf-8")
        if main:
            self._run.commit_checkpoint(step, partial)
            self._run.rotate(self._keep_last)
        accelerator.wait_for_everyone()

    def rotate(self) -> None:
        """Delete the checkpoints that are no longer kept: another one may be the best now."""
        if self._trainer.accelerator.is_main_process:
            self._run.rotate(self._keep_last)


def _tidy(folder: Path) -> None:
    """Drop what a checkpoint must not hold: a pickle that may carry tokens, and the critic's PEFT copy."""
    (folder / "training_args.bin").unlink(missing_ok=True)
    if (folder / "critic").is_dir():
        shutil.rmtree(folder / "critic")


class SavesInto(Trainer):
    """Lets the job write its checkpoints: transformers would make checkpoint-STEP in a directory of its own.

    transformers asks for a checkpoint where a callback has set `should_save`: after the step's metrics are logged.
    """

    write_checkpoint: Callable[[], None]
    _target: Path | None = None

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.write_checkpoint()

    def save_into(self, folder: Path) -> None:
        """Everything a resumed job needs, written into `folder` by all processes."""
        self._target = folder
        try:
            with own_rates(self.model), blank_generation_config(self.model):
                Trainer._save_checkpoint(self, self.model_wrapped, None)
        finally:
            self._target = None
        inner = folder / f"checkpoint-{self.state.global_step}"
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            for item in inner.iterdir():
                item.rename(folder / item.name)
            inner.rmdir()
            if (folder / FILE).exists():  # beside whole weights
                write_generation_config(self.model.generation_config, folder)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._target is None else str(self._target)
