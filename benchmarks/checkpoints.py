"""The share of a job's training time that goes into its checkpoints, at the default interval.

The quickstart's job, in this process, with a clock around each checkpoint: writing, flushing, hashing, committing and
deleting old ones. Its time is training, validations left out; loading the model is before it starts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.common import Row, main
from rft_cli.config import RunConfig
from rft_cli.events import Started
from rft_cli.job import create_run, load_job
from rft_cli.training.hooks.saving import CheckpointWriter
from rft_cli.training.hooks.validate_and_save import ValidateAndSave
from rft_cli.training.main import train

LIMIT = 0.02
DATA = Path(__file__).parents[1] / "sample_data"
JOBS: dict[str, dict[str, Any]] = {
    "all weights of builtin/tiny (0.95 M)": {},
    "LoRA on builtin/tiny": {"lora": {"enabled": True}},
}


def rows() -> list[Row]:
    """One row a job."""
    return [_row(name, settings) for name, settings in JOBS.items()]


def _row(name: str, settings: dict[str, Any]) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        files = {"train": str(DATA / "train.jsonl"), "validation": str(DATA / "val.jsonl")}
        job = load_job(
            RunConfig.model_validate(
                {
                    "data": files,
                    "grader": {"path": str(DATA / "scorer.py")},
                    "output_dir": folder,
                    **settings,
                }
            )
        )
        run = create_run(job)
        with Clock(CheckpointWriter, "save") as saving, Clock(ValidateAndSave, "sample") as sampling:
            began = Began()
            train(job, run, began)
            ended = perf_counter()
        training = ended - began.at - sampling.seconds
    detail = f"{saving.seconds:.2f} s for {saving.calls} checkpoints in {training:.0f} s of training"
    return Row(f"checkpoints' share of training: {name}", saving.seconds / training, LIMIT, "lower", detail)


class Began:
    """Notes when the model is loaded and training begins."""

    at = 0.0

    def __call__(self, event: object) -> None:
        if isinstance(event, Started):
            self.at = perf_counter()


class Clock:
    """While open, adds up the seconds that a method takes."""

    def __init__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name
        self._method: Callable[..., Any] = getattr(owner, name)
        self.seconds, self.calls = 0.0, 0

    def __enter__(self) -> Clock:
        method = self._method

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += perf_counter() - start
                self.calls += 1

        setattr(self._owner, self._name, timed)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self._owner, self._name, self._method)


if __name__ == "__main__":
    main(rows)
