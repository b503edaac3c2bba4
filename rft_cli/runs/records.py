"""What stands beside the checkpoints, as it was at each of them: a job that goes on trusts only what it can compare.

A checkpoint carries copies of metrics.jsonl and of the validations, which nothing could make again, and sizes and
hashes of the rollouts, which would be too much to copy. Its own manifest vouches for all of it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from rft_cli.runs.files import sha256_of, write_atomic

FOLDER = "records"
_ROLLOUTS = "rollouts.json"


class Recorder:
    """Writes the records of one run's checkpoints, and compares the run with them when it goes on."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._known: dict[tuple[str, int, int], str] = {}

    def write(self, checkpoint: Path) -> None:
        """Put the records as they are now into a checkpoint that is being written."""
        folder = checkpoint / FOLDER
        (folder / "validation").mkdir(parents=True)
        for file in _kept(self._run):
            shutil.copyfile(file, folder / file.relative_to(self._run))
        files = sorted((self._run / "rollouts").glob("step-*.jsonl"))
        rollouts = {file.name: self._measured(file) for file in files}
        (folder / _ROLLOUTS).write_text(json.dumps(rollouts, indent=1) + "\n", encoding="utf-8")

    def restore(self, checkpoint: Path) -> Iterator[str]:
        """Make metrics and validations what they were at this checkpoint; yields what was not, for people.

        A checkpoint of an earlier version has no records, and nothing happens.
        """
        folder = checkpoint / FOLDER
        if folder.is_dir():
            yield from _restore_copies(self._run, folder)
            yield from self._compare_rollouts(folder)

    def _compare_rollouts(self, folder: Path) -> Iterator[str]:
        for name, [size, digest] in json.loads((folder / _ROLLOUTS).read_text(encoding="utf-8")).items():
            file = self._run / "rollouts" / name
            try:
                same = [*self._measured(file)] == [size, digest]
                what = "has changed since it was written"
            except OSError:
                same, what = False, "is missing"
            if not same:
                yield f"{file} {what}: the counts of grades in the result go without it, training does not"

    def _measured(self, rollouts: Path) -> tuple[int, str]:
        """Size and SHA-256 of a rollout batch; it is read once, and again where it was written anew."""
        status = rollouts.stat()
        key = (rollouts.name, status.st_size, status.st_mtime_ns)
        if key not in self._known:
            self._known[key] = sha256_of(rollouts)
        return status.st_size, self._known[key]


def _restore_copies(run: Path, folder: Path) -> Iterator[str]:
    for copy in _kept(folder):
        file, content = run / copy.relative_to(folder), copy.read_bytes()
        grows = file.name == "metrics.jsonl"
        found = _read(file)
        if found is not None and (found[: len(content)] if grows else found) == content:
            continue
        what = "was missing" if found is None else "was damaged"
        file.parent.mkdir(exist_ok=True)
        write_atomic(file, content)
        yield f"{file} {what}: restored from {folder.parent}"


def holds(checkpoint: Path, name: str) -> bool:
    """Whether the records of this checkpoint have a copy of the run's file `name`."""
    return (checkpoint / FOLDER / name).is_file()


def _kept(folder: Path) -> list[Path]:
    """The files that are copied, in the run or in the records."""
    metrics = folder / "metrics.jsonl"
    return [*([metrics] if metrics.is_file() else []), *sorted((folder / "validation").glob("*.jsonl"))]


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
