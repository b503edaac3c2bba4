"""What the dashboard keeps of a job that it started: a folder `.jobs/NAME` beside the runs, with record and log.

The record says which process it is. It is there before the run directory exists; a run that is resumed gets a new
one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from rft_cli.runs.files import write_atomic

FOLDER = ".jobs"


@dataclass(frozen=True, slots=True)
class Record:
    """One start. `created`: when its process began, as the system says: a later process with the same number has
    another time. `values`: the form's, to fill it in again; empty for a resume. `log_from`: where its output begins in
    the log, which has that of earlier starts before it."""

    name: str
    arguments: list[str]
    pid: int
    created: float
    values: dict[str, str] = field(default_factory=dict)
    log_from: int = 0

    def is_alive(self) -> bool:
        """Whether its process still runs, and is not another one with the same number."""
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """Its process, None where that has ended."""
        try:
            found = psutil.Process(self.pid)
            if found.create_time() != self.created or found.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.Error:
            return None
        return found


def folder_of(output_dir: Path, name: str) -> Path:
    """Where the job of this name has its record and log."""
    return output_dir / FOLDER / name


def write_record(folder: Path, record: Record) -> None:
    """Keep the record of a start."""
    write_atomic(folder / "job.json", json.dumps(asdict(record), indent=2) + "\n")


def read_record(folder: Path) -> Record | None:
    """The record in this folder; None where there is none, or it is damaged."""
    try:
        row: Mapping[str, Any] = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        return Record(
            name=str(row["name"]),
            arguments=[str(part) for part in row["arguments"]],
            pid=int(row["pid"]),
            created=float(row["created"]),
            values={str(key): str(value) for key, value in row["values"].items()},
            log_from=int(row["log_from"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_log(folder: Path, start: int, most: int = 64_000) -> str:
    """What was written to the job's log from `start` on; of much its end, from the beginning of a line."""
    try:
        with (folder / "log.txt").open("rb") as file:
            size = file.seek(0, 2)
            first = file.seek(max(start, size - most))
            content = file.read(most)
    except OSError:
        return ""
    if first > start:
        content = content.partition(b"\n")[2]
    return content.decode("utf-8", errors="replace")
