"""Run: one run directory, from its creation to its report.

Everything in it is written atomically: it can be read while it runs and resumed after any crash.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rft_cli.errors import Interrupted, RftError
from rft_cli.runs import best, create, disk_errors, find, lock
from rft_cli.runs.checkpoints import CheckpointStore
from rft_cli.runs.files import append_line, drafts, finite, read_lines, write_atomic, write_lines
from rft_cli.types import Sample

PILOT = "pilot.json"
MADE_LAST = ("constant", "references", "swapped", "swapped-base")
"""What is graded of each split at the end of a job, for the verdict."""


class Run:
    """A run directory. `create` makes one, `open` finds one; `path` is its directory, `store` has its checkpoints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = CheckpointStore(path / "checkpoints")

    @classmethod
    def create(
        cls,
        output_dir: str | Path,
        name: str | None,
        *,
        config_yaml: str,
        info: Mapping[str, Any],
        files: Mapping[str, bytes] | None = None,
    ) -> Run:
        """Make `output_dir/name` with config.yaml, run.json and `files`, whole or not at all: see `runs.create`."""
        return cls(create.create(output_dir, name, config_yaml=config_yaml, info=info, files=files))

    @classmethod
    def open(cls, ref: str | Path, output_dir: str | Path = "runs") -> Run:
        """The run that `ref` means: `latest`, a name under `output_dir`, or a path; else a UsageError."""
        run = cls(find.resolve(os.path.expanduser(ref), Path(output_dir).expanduser()))
        # reports damage and later versions
        find.check_record(run.path, run.info)
        return run

    @property
    def name(self) -> str:
        return self.path.name

    # run.json

    @property
    def info(self) -> dict[str, Any]:
        """The content of run.json now (another process may be writing it)."""
        return find.read_info(self.path)

    def update(self, **fields: Any) -> dict[str, Any]:
        """Set fields of run.json, atomically; the whole record."""
        record = {**self.info, **fields}
        with self.writing(self.path / "run.json"):
            create.write_info(self.path, record)
        return record

    def writing(self, path: Path) -> AbstractContextManager[None]:
        """Hold this around writing a part of the run: a full or read-only disk is a RunFailed that names `path`."""
        return disk_errors.writing(path, self.path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock for all writing; a second writer gets a UsageError naming the holder.

        Removes temporary files of killed writers.
        """
        with lock.hold(self.path):
            with self.writing(self.path):
                for path in self._drafts():
                    path.unlink(missing_ok=True)
            yield

    def sweep(self) -> None:
        """Remove temporary files of killed writers, unless somebody writes now or the disk refuses."""
        if self._drafts():
            with contextlib.suppress(RftError), self.lock():
                pass

    def check_free(self) -> None:
        """Raise that UsageError if the run is being written now; changes nothing on disk."""
        lock.check_free(self.path)

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Hold the lock and keep `status` true: running, then failed or interrupted where an error leaves it.

        Call `finish` inside for a run that reached its end. `seconds` adds up over a run's sessions.
        """
        with self.lock():
            start = datetime.now(UTC)
            before = float(self.info.get("seconds") or 0.0)
            self.update(
                status="running",
                started=start.isoformat(),
                finished=None,
                error=None,
                pid=os.getpid(),
                host=socket.gethostname(),
            )
            try:
                yield
            except BaseException as error:
                stopped = isinstance(error, Interrupted | KeyboardInterrupt)
                said = str(error) or type(error).__name__
                # on a full disk: room for what follows
                self.store.remove_torn()
                # the first error is reported, not this one
                with contextlib.suppress(RftError):
                    self.update(
                        status="interrupted" if stopped else "failed", error=said, **_ended(start, before)
                    )
                raise
            else:
                self.update(**_ended(start, before))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Mark the run as finished, with its result."""
        self.update(status="finished", result=dict(result))

    def write_config(self, config_yaml: str) -> None:
        """Replace config.yaml: the job is continued with another setting."""
        with self.writing(self.path / "config.yaml"):
            write_atomic(self.path / "config.yaml", config_yaml)

    def write_pilot(self, pilot: Mapping[str, Any]) -> None:
        """Keep what the pilot found as pilot.json."""
        with self.writing(self.path / PILOT):
            write_atomic(self.path / PILOT, json.dumps(finite(pilot), indent=2) + "\n")

    def read_pilot(self) -> dict[str, Any] | None:
        """What `write_pilot` kept; None if there was no pilot, or its file is damaged."""
        try:
            found = json.loads((self.path / PILOT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        limit = found.get("max_completion_tokens") if isinstance(found, dict) else None
        return found if isinstance(limit, int) and limit > 0 else None

    def discard_if_empty(self) -> bool:
        """Delete the run if nothing was measured or saved in it; whether it was deleted."""
        if self.metrics() or self.validated_steps() or self.checkpoints():
            return False
        shutil.rmtree(self.path, ignore_errors=True)
        return True

    # metrics, rollouts, validation samples

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one step's line; non-finite numbers become null."""
        with self.writing(self.metrics_path):
            append_line(self.metrics_path, row)

    def metrics(self) -> list[dict[str, Any]]:
        """All lines so far, oldest first."""
        return list(read_lines(self.metrics_path))

    def write_rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep one rollout batch: rollouts/step-000012.jsonl."""
        self._write_lines(self._inside("rollouts") / f"step-{step:06d}.jsonl", rows)

    def truncate(self, step: int) -> None:
        """Drop what came after `step`, and what is made at the end: it will be made again."""
        kept = [row for row in self.metrics() if row.get("step", 0) <= step]
        self._write_lines(self.metrics_path, kept)
        for file in (self.path / "rollouts").glob("step-*.jsonl"):
            if int(file.stem.removeprefix("step-")) >= step:
                file.unlink()
        later = [f"step-{other:06d}" for other in self.validated_steps() if other > step]
        made_last = [f"{name}-{split}" for name in MADE_LAST for split in ("validation", "test")]
        for name in (*later, "test-after", *made_last):
            self._samples(name).unlink(missing_ok=True)

    def _drafts(self) -> list[Path]:
        folders = (self.path, self.path / "rollouts", self.path / "validation")
        return [path for folder in folders for path in drafts(folder)]

    def drop_samples(self, name: str) -> None:
        """Delete the samples kept under this name, to be made again."""
        with self.writing(self._samples(name)):
            self._samples(name).unlink(missing_ok=True)

    def rollouts(self) -> Iterator[dict[str, Any]]:
        """Every rollout kept so far, in order of steps."""
        for file in sorted((self.path / "rollouts").glob("step-*.jsonl")):
            yield from read_lines(file)

    def write_samples(self, name: str, samples: Sequence[Sample]) -> None:
        """Keep one validation as validation/NAME.jsonl (`step-000000`, `test-before`, `constant-test`)."""
        self._inside("validation")
        self._write_lines(self._samples(name), (sample.to_json() for sample in samples))

    def read_samples(self, name: str) -> list[Sample]:
        """The samples kept under this name; FileNotFoundError if there are none."""
        file = self._samples(name)
        if not file.is_file():
            raise FileNotFoundError(file)
        return [Sample.from_json(row) for row in read_lines(file)]

    def count_samples(self, name: str) -> int:
        """How many of the samples kept under this name are whole lines."""
        return sum("grade" in row for row in read_lines(self._samples(name)))

    def has_samples(self, name: str) -> bool:
        return self._samples(name).is_file()

    def validated_steps(self) -> list[int]:
        """Steps after which the validation rows were sampled; 0 is the base model."""
        names = (file.stem for file in (self.path / "validation").glob("step-*.jsonl"))
        return sorted(int(name.removeprefix("step-")) for name in names if name[5:].isdigit())

    # checkpoints

    def begin_checkpoint(self, step: int) -> Path:
        """An empty directory to save into (one process only); then `commit_checkpoint`."""
        with self.writing(self.checkpoint_path(step)):
            return self.store.begin(step)

    def commit_checkpoint(self, step: int, partial: Path) -> Path:
        """Make the saved files a checkpoint; only from here on does it exist."""
        with self.writing(self.checkpoint_path(step)):
            return self.store.commit(step, partial)

    def checkpoints(self) -> list[int]:
        """Steps of the committed checkpoints, ascending."""
        return self.store.steps()

    def checkpoint_path(self, step: int) -> Path:
        return self.store.path(step)

    def verify_checkpoint(self, step: int) -> str | None:
        """None if every file is as committed, else what is wrong with which file."""
        return self.store.verify(step)

    def rotate(self, keep_last: int, protect: Collection[int] = ()) -> list[int]:
        """Delete all but the newest `keep_last`, the protected and the best; returns the deleted steps."""
        chosen = self.best_checkpoint()
        kept = {*protect} if chosen is None else {*protect, int(chosen.name.removeprefix("step-"))}
        with self.writing(self.store.folder):
            return self.store.rotate(keep_last, kept)

    def set_best(self, step: int | None) -> None:
        """Point `best` at a committed checkpoint; None or 0 says that the base model is best (no link)."""
        if step and step not in self.checkpoints():
            raise ValueError(f"{self.checkpoint_path(step)} is not a committed checkpoint")
        with self.writing(self.path / "best"):
            best.point(self.path, step or None)
        self.update(best_step=step or 0)

    def best_checkpoint(self) -> Path | None:
        """The best checkpoint's directory; None if the base model is best.

        Raises UsageError if the run had a best one that is not there any more.
        """
        return best.find(self.path, int(self.info.get("best_step") or 0))

    def _samples(self, name: str) -> Path:
        return self.path / "validation" / f"{name}.jsonl"

    def _write_lines(self, path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        with self.writing(path):
            write_lines(path, rows)

    def _inside(self, name: str) -> Path:
        folder = self.path / name
        with self.writing(folder):
            folder.mkdir(exist_ok=True)
        return folder


def _ended(start: datetime, before: float) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {"finished": now.isoformat(), "seconds": before + (now - start).total_seconds()}
