"""Run: one run directory, from its creation to its report.

Everything in it is written whole or not at all: it can be read while it runs and resumed after any death.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rft_cli.errors import Interrupted, UsageError
from rft_cli.runs import find, lock
from rft_cli.runs.checkpoints import CheckpointStore
from rft_cli.runs.files import append_line, finite, fsync_path, read_lines, write_atomic, write_lines
from rft_cli.types import Sample

SCHEMA_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


class Run:
    """A run directory. `create` makes one, `open` finds one; `path` is where it lies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._checkpoints = CheckpointStore(path / "checkpoints")

    @staticmethod
    def check_new(output_dir: str | Path, name: str | None) -> None:
        """Raise UsageError where `create` could not make this run."""
        parent = Path(output_dir)
        final = parent / _checked_name(name, datetime.now(UTC), "model", parent)
        if os.path.lexists(final):
            raise _exists(final)
        there = next(folder for folder in (parent, *parent.absolute().parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"cannot make a run in {parent}", "choose another folder with --output-dir")

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
        """Make `output_dir/name` with config.yaml, run.json and `files` (path inside the run -> content).

        The directory is filled under a temporary name and then renamed: no half-made run is ever seen.
        Without a name it is `<UTC date-time>-<slug of info["model"]>`. An existing name is a UsageError.
        """
        parent = Path(output_dir)
        now = datetime.now(UTC)
        final = parent / _checked_name(name, now, str(info.get("model", "model")), parent)
        if os.path.lexists(final):
            raise _exists(final)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            draft = parent / f".new-{final.name}-{os.getpid()}-{secrets.token_hex(4)}"
            draft.mkdir()
        except OSError as error:
            raise UsageError(
                f"cannot make a run in {parent}: {error.strerror}", "choose another folder with --output-dir"
            ) from None
        try:
            record = {
                "schema_version": SCHEMA_VERSION,
                "name": final.name,
                "status": "created",
                "created": now.isoformat(),
                "finished": None,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "best_step": 0,
                "result": None,
                **info,
            }
            (draft / "config.yaml").write_text(config_yaml, encoding="utf-8")
            for inside, content in (files or {}).items():
                (draft / inside).parent.mkdir(parents=True, exist_ok=True)
                (draft / inside).write_bytes(content)
            for folder in ("rollouts", "validation", "checkpoints"):
                (draft / folder).mkdir()
            _write_info(draft, record)
            os.rename(draft, final)
        except BaseException as error:
            shutil.rmtree(draft, ignore_errors=True)
            if isinstance(error, OSError) and os.path.lexists(final):  # made by another process meanwhile
                raise _exists(final) from None
            raise
        fsync_path(parent)
        return cls(final)

    @classmethod
    def open(cls, ref: str | Path, output_dir: str | Path = "runs") -> Run:
        """The run that `ref` means: `latest`, a name under `output_dir`, or a path; else a UsageError."""
        run = cls(find.resolve(str(ref), Path(output_dir)))
        run.info  # noqa: B018  (a damaged run.json is said here, once)
        return run

    @property
    def name(self) -> str:
        return self.path.name

    # run.json

    @property
    def info(self) -> dict[str, Any]:
        """What run.json says now (another process may be writing it)."""
        return find.read_info(self.path)

    def update(self, **fields: Any) -> dict[str, Any]:
        """Set fields of run.json, atomically; the whole record."""
        record = {**self.info, **fields}
        _write_info(self.path, record)
        return record

    def lock(self) -> AbstractContextManager[None]:
        """Hold this around all writing; a second writer gets a UsageError naming the holder."""
        return lock.hold(self.path)

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
                self.update(status="interrupted" if stopped else "failed", error=said)
                raise
            finally:
                now = datetime.now(UTC)
                self.update(finished=now.isoformat(), seconds=before + (now - start).total_seconds())

    def finish(self, result: Mapping[str, Any]) -> None:
        """Mark the run as finished, with its result."""
        self.update(status="finished", result=dict(result))

    def write_config(self, config_yaml: str) -> None:
        """Replace config.yaml: the job is continued with another setting."""
        write_atomic(self.path / "config.yaml", config_yaml)

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
        append_line(self.metrics_path, row)

    def metrics(self) -> list[dict[str, Any]]:
        """All lines so far, oldest first."""
        return list(read_lines(self.metrics_path))

    def truncate_metrics(self, after_step: int) -> None:
        """Drop the lines of steps later than `after_step`: they will be made again."""
        write_lines(self.metrics_path, [row for row in self.metrics() if row.get("step", 0) <= after_step])

    def write_rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep one rollout batch: rollouts/step-000012.jsonl."""
        write_lines(self._inside("rollouts") / f"step-{step:06d}.jsonl", rows)

    def truncate_rollouts(self, from_step: int) -> None:
        """Drop the rollout batches sampled at `from_step` or later: they will be made again."""
        for file in (self.path / "rollouts").glob("step-*.jsonl"):
            if int(file.stem.removeprefix("step-")) >= from_step:
                file.unlink()

    def truncate_samples(self, after_step: int) -> None:
        """Drop the validations of steps later than `after_step` and the last test: they will be made again."""
        for file in (self.path / "validation").glob("step-*.jsonl"):
            if int(file.stem.removeprefix("step-")) > after_step:
                file.unlink()
        (self.path / "validation" / "test-after.jsonl").unlink(missing_ok=True)

    def rollouts(self) -> Iterator[dict[str, Any]]:
        """Every rollout kept so far, in order of steps."""
        for file in sorted((self.path / "rollouts").glob("step-*.jsonl")):
            yield from read_lines(file)

    def write_samples(self, name: str, samples: Sequence[Sample]) -> None:
        """Keep one validation as validation/NAME.jsonl (`step-000000`, `test-before`, `test-after`)."""
        write_lines(self._inside("validation") / f"{name}.jsonl", (sample.to_json() for sample in samples))

    def read_samples(self, name: str) -> list[Sample]:
        """The samples kept under this name; FileNotFoundError where there are none."""
        file = self.path / "validation" / f"{name}.jsonl"
        if not file.is_file():
            raise FileNotFoundError(file)
        return [Sample.from_json(row) for row in read_lines(file)]

    def has_samples(self, name: str) -> bool:
        return (self.path / "validation" / f"{name}.jsonl").is_file()

    def validated_steps(self) -> list[int]:
        """Steps after which the validation rows were sampled; 0 is the base model."""
        names = (file.stem for file in (self.path / "validation").glob("step-*.jsonl"))
        return sorted(int(name.removeprefix("step-")) for name in names if name[5:].isdigit())

    # checkpoints

    def begin_checkpoint(self, step: int) -> Path:
        """An empty directory to save into (one process only); then `commit_checkpoint`."""
        return self._checkpoints.begin(step)

    def commit_checkpoint(self, step: int, partial: Path) -> Path:
        """Make the saved files a checkpoint; only from here on does it exist."""
        return self._checkpoints.commit(step, partial)

    def checkpoints(self) -> list[int]:
        """Steps of the committed checkpoints, ascending."""
        return self._checkpoints.steps()

    def checkpoint_path(self, step: int) -> Path:
        return self._checkpoints.path(step)

    def verify_checkpoint(self, step: int) -> str | None:
        """None where every file is as committed, else what is wrong with which file."""
        return self._checkpoints.verify(step)

    def rotate(self, keep_last: int, protect: Collection[int] = ()) -> list[int]:
        """Delete all but the newest `keep_last`, the protected and the best; returns the deleted steps."""
        best = self.best_checkpoint()
        kept = {*protect} if best is None else {*protect, int(best.name.removeprefix("step-"))}
        return self._checkpoints.rotate(keep_last, kept)

    def set_best(self, step: int | None) -> None:
        """Point `best` at a committed checkpoint; None or 0 says that the base model is best (no link)."""
        link = self.path / "best"
        if not step:
            with contextlib.suppress(FileNotFoundError):
                link.unlink()
        else:
            if step not in self.checkpoints():
                raise ValueError(f"{self.checkpoint_path(step)} is not a committed checkpoint")
            draft = self.path / ".best-new"
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
            draft.symlink_to(Path("checkpoints") / f"step-{step}")
            os.replace(draft, link)
        fsync_path(self.path)
        self.update(best_step=step or 0)

    def best_checkpoint(self) -> Path | None:
        """The best checkpoint's directory; None where the base model is best."""
        link = self.path / "best"
        return self.path / os.readlink(link) if link.is_symlink() and link.exists() else None

    def _inside(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        return folder


is_run = find.is_run


def _write_info(folder: Path, record: Mapping[str, Any]) -> None:
    write_atomic(folder / "run.json", json.dumps(finite(record), indent=2) + "\n")


def _exists(path: Path) -> UsageError:
    return UsageError(
        f"{path} exists already", f"choose another --name, or continue it with `rft train --resume {path}`"
    )


def _checked_name(name: str | None, now: datetime, model: str, parent: Path) -> str:
    if name is not None:
        if name == "latest" or not _NAME.fullmatch(name):
            raise UsageError(
                f"--name {name!r} can't be a run's name",
                "use letters, digits, '.', '_', '+' and '-', beginning with a letter or digit (not 'latest')",
            )
        return name
    last_part = model.rstrip("/").rsplit("/", 1)[-1].lower()
    slug = re.sub(r"[^a-z0-9.]+", "-", last_part).strip("-.")[:40]
    base = f"{now:%Y%m%d-%H%M%S}-{slug or 'model'}"
    taken = 1
    while os.path.lexists(parent / (base if taken == 1 else f"{base}-{taken}")):
        taken += 1
    return base if taken == 1 else f"{base}-{taken}"
