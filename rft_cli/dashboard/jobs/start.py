"""Starts jobs as processes of their own, which outlive the page and the dashboard."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil

from rft_cli.dashboard.jobs.command import create_arguments, resume_arguments, rft, shown
from rft_cli.dashboard.jobs.record import FOLDER, Record, folder_of, read_log, read_record, write_record
from rft_cli.errors import RunFailed, UsageError
from rft_cli.runs.create import free_name
from rft_cli.runs.find import is_run

State = Literal["starting", "run", "ended"]
"""starting: its process lives, there is no run directory yet. run: there is one. ended: neither."""


@dataclass(frozen=True, slots=True)
class Started:
    """A job as a page shows it. `code`: the exit code of its process, None while that runs, or where it isn't known."""

    record: Record
    state: State
    alive: bool
    code: int | None
    log: str

    @property
    def command(self) -> str:
        return shown(self.record.arguments)


class Jobs:
    """The jobs that were started into `output_dir`. `folder` is where their commands run and relative paths begin."""

    def __init__(self, folder: Path, output_dir: Path) -> None:
        self.folder = folder
        # as a person would type it in `folder`
        self.output_dir = output_dir
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    @property
    def runs(self) -> Path:
        """The output directory as a path that holds wherever this process stands."""
        return self.folder / self.output_dir

    def arguments(self, values: Mapping[str, str]) -> list[str]:
        """The arguments of `rft` for the form's values, with the run's name where that was left empty."""
        return create_arguments(values, self.output_dir)

    def start(self, values: Mapping[str, str]) -> str:
        """Start a job of these values, which a check has passed; the name of its run."""
        with self._lock:
            name = values.get("name") or self._free_name(values.get("model.path", "builtin/tiny"))
            folder = folder_of(self.runs, name)
            if is_run(self.runs / name):
                raise UsageError(f"{self.output_dir / name} exists already", "choose another name")
            self._refuse_two(folder)
            self._spawn(name, self.arguments({**values, "name": name}), values)
        return name

    def resume(self, run: Path) -> str:
        """Resume this run, which lies in the output directory; its name."""
        with self._lock:
            self._refuse_two(folder_of(self.runs, run.name))
            self._spawn(run.name, resume_arguments(self.output_dir / run.name), {})
        return run.name

    def find(self, name: str) -> Started | None:
        """The job of this name; None if the dashboard started none."""
        record = read_record(folder_of(self.runs, name)) if is_name(name) else None
        if record is None:
            return None
        code = self._exit_code(name)
        alive = record.is_alive()
        state: State = "run" if is_run(self.runs / name) else "starting" if alive else "ended"
        return Started(record, state, alive, code, read_log(folder_of(self.runs, name)))

    def without_run(self) -> list[Started]:
        """The jobs that have no run directory, newest first: those that start, and those that failed at it."""
        try:
            names = [path.name for path in (self.runs / FOLDER).iterdir()]
        except OSError:
            return []
        found = [job for name in names if (job := self.find(name)) is not None and job.state != "run"]
        return sorted(found, key=lambda job: job.record.created, reverse=True)

    def _exit_code(self, name: str) -> int | None:
        child = self._children.get(name)
        return None if child is None else child.poll()

    def _free_name(self, model: str) -> str:
        """A name that neither a run nor another start has."""
        now = datetime.now(UTC)
        name = free_name(model, self.runs, now)
        return name if not folder_of(self.runs, name).exists() else free_name(model, self.runs / FOLDER, now)

    def _refuse_two(self, folder: Path) -> None:
        record = read_record(folder)
        if record is not None and record.is_alive():
            raise UsageError(
                f"{folder.name} is running already, as process {record.pid}", "stop it first, or choose another name"
            )

    def _spawn(self, name: str, arguments: Sequence[str], values: Mapping[str, str]) -> None:
        folder = folder_of(self.runs, name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "log.txt").open("wb") as log:
                child = subprocess.Popen(
                    rft(arguments),
                    cwd=self.folder,
                    env={**os.environ, "NO_COLOR": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # a session of its own: neither Ctrl-C nor a closed terminal reaches it
                    start_new_session=True,
                )
            self._children[name] = child
            created = psutil.Process(child.pid).create_time()
            write_record(folder, Record(name, list(arguments), child.pid, created, dict(values)))
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise RunFailed(f"{folder}: the job can't be started: {said}") from None


def is_name(name: str) -> bool:
    """Whether this can be the name of a run, and so of a folder inside another one."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}", name) is not None
