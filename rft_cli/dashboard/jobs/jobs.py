"""The jobs of a dashboard: each is a process of its own, which outlives the page and the dashboard."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil
from starlette.requests import Request

from rft_cli.dashboard.jobs.actions import RESUMABLE, Actions, Doing, last_error
from rft_cli.dashboard.jobs.command import create_arguments, resume_arguments, rft, shown
from rft_cli.dashboard.jobs.record import FOLDER, Record, folder_of, read_log, read_record, write_record
from rft_cli.dashboard.jobs.writer import ask_to_stop, is_written, writer_of
from rft_cli.errors import RunFailed, UsageError
from rft_cli.runs.create import check_new, free_name
from rft_cli.runs.find import is_run
from rft_cli.runs.lock import check_free

RECENT_S, MOST = 24 * 3600.0, 5
"""How long, and how many, jobs that ended without a run are listed."""
State = Literal["starting", "run", "ended"]
"""starting: its process lives, there is no run directory yet. run: there is one. ended: neither."""


@dataclass(frozen=True, slots=True)
class StartedJob:
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
    """The jobs that were started into `output_dir`. `folder` is where their commands run and relative paths begin.

    `form_token` is in every form of this dashboard; one that is sent without it is refused.
    """

    def __init__(self, folder: Path, output_dir: Path) -> None:
        self.folder = folder
        # as a person would type it in `folder`
        self.output_dir = output_dir
        self.form_token = secrets.token_urlsafe(24)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._asked: dict[str, psutil.Process] = {}
        self._lock = threading.Lock()

    @property
    def runs(self) -> Path:
        """The output directory as a path that holds wherever this process stands."""
        return self.folder / self.output_dir

    def arguments(self, values: Mapping[str, str]) -> list[str]:
        """The arguments of `rft` for the form's values."""
        return create_arguments(values, self.output_dir)

    def start(self, values: Mapping[str, str]) -> str:
        """Start a job of these values, which a check has passed; the name of its run."""
        with self._lock:
            name = values.get("name") or self._free_name(values.get("model.path", "builtin/tiny"))
            check_new(self.runs, name)
            self._spawn(name, self.arguments({**values, "name": name}), values)
        return name

    def resume(self, run: Path) -> str:
        """Resume this run, which lies in the output directory; its name."""
        check_free(run)
        with self._lock:
            self._spawn(run.name, resume_arguments(self.output_dir / run.name), {})
        return run.name

    def stop(self, run: Path, at_once: bool = False) -> None:
        """Ask the process that writes this run to end; `at_once` counts only where it was asked before."""
        process = writer_of(run)
        with self._lock:
            asked = self._asked.get(run.name) == process
            if asked and not at_once:
                return
            ask_to_stop(process, at_once and asked)
            self._asked[run.name] = process

    def stop_start(self, name: str) -> None:
        """End a job that writes no run yet: it has nothing to keep."""
        record = read_record(folder_of(self.runs, name)) if is_name(name) else None
        process = None if record is None else record.process()
        if process is not None and not is_written(self.runs / name):
            ask_to_stop(process)

    def actions(self, run: Path, info: Mapping[str, Any]) -> Actions:
        """What can be done with this run, which has that run.json."""
        job = self.find(run.name)
        if not is_written(run):
            can_resume = info.get("status") in RESUMABLE
            if job is None:
                return Actions("nothing", can_resume=can_resume)
            if job.alive:
                doing: Doing = "ending" if job.record.created < _began(info) else "starting"
                return Actions(doing, job.record.pid, has_log=True)
            # over 128: a signal ended it, as somebody wished
            failed = can_resume and 0 < (job.code or 0) <= 128
            return Actions(
                "nothing", None, "", can_resume, last_error(job.log) if failed else "", has_log=True
            )
        try:
            process = writer_of(run)
        except UsageError as error:
            return Actions("running", refused=f"{error.message}: {error.fix}", has_log=job is not None)
        asked = self._asked.get(run.name) == process
        return Actions("stopping" if asked else "running", process.pid, has_log=job is not None)

    def find(self, name: str) -> StartedJob | None:
        """The job of this name; None if the dashboard started none."""
        record = read_record(folder_of(self.runs, name)) if is_name(name) else None
        if record is None:
            return None
        child = self._children.get(name)
        code = None if child is None else child.poll()
        alive = record.is_alive()
        state: State = "run" if is_run(self.runs / name) else "starting" if alive else "ended"
        log = read_log(folder_of(self.runs, name), record.log_from)
        return StartedJob(record, state, alive, code, log)

    def without_run(self) -> list[StartedJob]:
        """The jobs that have no run directory, newest first: those that start, and of today those that failed at it."""
        try:
            names = [path.name for path in (self.runs / FOLDER).iterdir()]
        except OSError:
            return []
        there = (self.find(name) for name in names if not is_run(self.runs / name))
        since = time.time() - RECENT_S
        shown = (job for job in there if job is not None and (job.alive or job.record.created > since))
        return sorted(shown, key=lambda job: job.record.created, reverse=True)[:MOST]

    def _free_name(self, model: str) -> str:
        """A name that neither a run nor another start has."""
        now = datetime.now(UTC)
        name = free_name(model, self.runs, now)
        return free_name(model, self.runs / FOLDER, now) if folder_of(self.runs, name).exists() else name

    def _spawn(self, name: str, arguments: Sequence[str], values: Mapping[str, str]) -> None:
        """Start a process with these arguments of `rft`, and keep its record and log."""
        folder = folder_of(self.runs, name)
        before = read_record(folder)
        if before is not None and before.is_alive():
            raise UsageError(f"{name} is running already, as process {before.pid}", "stop it first")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "log.txt").open("ab") as log:
                begins = log.tell()
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
            record = Record(name, list(arguments), child.pid, created, dict(values), begins)
            write_record(folder, record)
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise RunFailed(f"{folder}: the job can't be started: {said}") from None


def _began(info: Mapping[str, Any]) -> float:
    """When the process that trained the run last began to, in seconds; 0 where none did."""
    try:
        return datetime.fromisoformat(str(info.get("started"))).timestamp()
    except ValueError:
        return 0.0


def jobs_of(request: Request) -> Jobs:
    """The jobs of the dashboard that got this request."""
    found = request.app.state.jobs
    assert isinstance(found, Jobs)
    return found


def is_name(name: str) -> bool:
    """Whether this can be the name of a run, and so of a folder inside another one."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}", name) is not None
