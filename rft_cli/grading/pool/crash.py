"""What can be said of a worker that is gone: how it ended, and where its scorer was."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Container
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

from pebble import ProcessExpired

from rft_cli.grading.sandbox.capture import MOST, output_path, shorten
from rft_cli.grading.sandbox.isolation import fault_path
from rft_cli.grading.wire.terms import ScorerSource
from rft_cli.grading.worker.keeper import WorkerLost, task_path

CRASH_CODE = 70
"""Stands for the exit code 0 of a worker: the pool takes 0 for a worker that meant to end, and none does."""
_GARBLED = "broke or garbled the pipe by which it answers, so rft ended the process"
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


@dataclass(frozen=True, slots=True)
class Crash:
    """`late`: it was ended because its time was over. `place` is the scorer's file:line where that is known.

    `output`: what the scorer printed last, where that is kept. `task` is the number of the task that the worker took
    last, None where that is not known; `blamed` says that only a task of this number may be to blame.
    """

    late: bool
    place: str
    text: str
    trace: str = ""
    output: str = ""
    task: int | None = None
    blamed: bool = False


def read_crash(
    error: BaseException, scratch: Path, source: ScorerSource, doing: str, stopped: Container[int] = ()
) -> Crash:
    """The crash behind a task's error. `doing` completes the sentence "… ended the process".

    `stopped`: processes of the pool that were ended because they were stopped.
    """
    if isinstance(error, TimeoutError):
        return Crash(True, source.shown, f"{doing} blocked its process")
    if isinstance(error, BrokenProcessPool):  # of which all tasks are told, whoever broke it
        return Crash(False, source.shown, f"{doing} broke the pool", blamed=True)
    if isinstance(error, WorkerLost):
        text = f"{doing} {_GARBLED}" if error.garbled else _ended(doing, error.code)
        return _crash(error.pid, text, error.late, scratch, source)
    if not isinstance(error, ProcessExpired):
        return Crash(False, source.shown, f"{doing} broke its process: {type(error).__name__}: {error}"[:500])
    if error.pid is None:
        return Crash(False, source.shown, _ended(doing, error.exitcode), blamed=True)
    code = -signal.SIGSTOP if error.pid in stopped else error.exitcode
    crash = _crash(error.pid, _ended(doing, code), False, scratch, source)
    return replace(crash, task=_task(task_path(scratch, error.pid)), blamed=True)


def _crash(pid: int, text: str, late: bool, scratch: Path, source: ScorerSource) -> Crash:
    trace = _take(fault_path(scratch, pid))[:4000]
    output = _take(output_path(scratch, pid))
    frame = next((m for m in _FRAME.finditer(trace) if m["file"] == source.path), None)
    place = source.shown if frame is None else f"{source.shown}:{frame['line']}"
    late = late or trace.startswith("Timeout (")
    return Crash(late, place, text, trace, output)


def _ended(doing: str, code: int | None) -> str:
    if code == -signal.SIGSTOP:
        return f"{doing} stopped the process (SIGSTOP), so rft ended it"
    return f"{doing} ended the process ({_ending(code)})"


def _take(path: Path) -> str:
    """The beginning of a file that a worker left, which is removed; empty where there is none."""
    try:
        with path.open("rb") as file:
            text = shorten(file.read(MOST + 1))
        os.unlink(path)
    except OSError:
        return ""
    return text


def _task(path: Path) -> int | None:
    """The number that a worker left in this file, which is removed; None where there is none."""
    try:
        number = int.from_bytes(path.read_bytes(), "little")
        os.unlink(path)
    except OSError:
        return None
    return number or None


def _ending(code: int | None) -> str:
    if code is None:
        return "exit code unknown"
    if code >= 0:
        return f"exit code {0 if code == CRASH_CODE else code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", perhaps out of memory" if name == "SIGKILL" else ""
    return f"{name}{hint}"
