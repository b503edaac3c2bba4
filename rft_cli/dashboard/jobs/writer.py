"""Which process writes a run, found so surely that it may be asked to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import psutil

from rft_cli.errors import UsageError
from rft_cli.runs.find import read_info
from rft_cli.runs.lock import check_free


def is_written(run: Path) -> bool:
    """Whether some process writes this run now."""
    try:
        check_free(run)
    except UsageError:
        return True
    return False


def writer_of(run: Path) -> psutil.Process:
    """The process that writes this run to train it; UsageError where there is none, or that isn't sure.

    It holds the run's lock file open: no other process has that file open for long, so that a note of a process that
    died, whose number another one got, can't end that one.
    """
    if not is_written(run):
        raise UsageError(f"{run.name}: no process writes this run", "it has ended already")
    try:
        note = json.loads((run / ".lock-holder").read_text(encoding="utf-8"))
        pid, host = int(note["pid"]), str(note["host"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{run.name}: it isn't known which process writes it", "stop it where it was started"
        ) from None
    if host != socket.gethostname():
        raise UsageError(f"{run.name}: process {pid} on {host} writes it, another machine", "stop it there")
    try:
        process = psutil.Process(pid)
        process.create_time()
        held = any(_same(Path(file.path), run / ".lock") for file in process.open_files())
    except psutil.NoSuchProcess:
        held = False
    except psutil.AccessDenied:
        raise UsageError(
            f"{run.name}: process {pid} writes it, of another user", "ask its owner to stop it"
        ) from None
    if not held:
        raise UsageError(
            f"{run.name}: process {pid}, named in the run, is not the one that writes it",
            "stop it where it was started",
        )
    if read_info(run).get("pid") != pid:
        raise UsageError(
            f"{run.name}: process {pid} writes it, and does not train it", "wait until that has ended"
        )
    return process


def ask_to_stop(process: psutil.Process, at_once: bool = False) -> None:
    """Ask a job's process to end: after its step and a checkpoint, or, if it was asked before, at once.

    psutil refuses to signal another process that got the same number meanwhile.
    """
    try:
        process.send_signal(signal.SIGINT if at_once else signal.SIGTERM)
    except psutil.NoSuchProcess:
        raise UsageError("the process has ended already") from None
    except psutil.AccessDenied:
        raise UsageError(
            f"process {process.pid} belongs to another user", "ask its owner to stop it"
        ) from None


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
