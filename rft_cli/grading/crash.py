"""What can be said of a worker that is gone: how it ended, and where its scorer was."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from pebble import ProcessExpired

from rft_cli.grading.isolation import CRASH_CODE, fault_path
from rft_cli.grading.load import ScorerSource

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


@dataclass(frozen=True, slots=True)
class Crash:
    """`late`: it was ended because its time was over. `place` is the scorer's file:line where that is known."""

    late: bool
    place: str
    text: str
    trace: str = ""


def read_crash(error: BaseException, scratch: Path, source: ScorerSource, doing: str) -> Crash:
    """The crash behind a task's error. `doing` completes the sentence "… ended the process"."""
    if isinstance(error, TimeoutError):
        return Crash(True, source.shown, f"{doing} blocked its process")
    if not isinstance(error, ProcessExpired):
        return Crash(False, source.shown, f"{doing} broke its process: {type(error).__name__}: {error}"[:500])
    trace = _take_fault(scratch, error.pid)
    frame = next((m for m in _FRAME.finditer(trace) if m["file"] == source.path), None)
    place = source.shown if frame is None else f"{source.shown}:{frame['line']}"
    late = trace.startswith("Timeout (")
    return Crash(late, place, f"{doing} ended the process ({_ending(error.exitcode)})", trace)


def _take_fault(scratch: Path, pid: int | None) -> str:
    if pid is None:
        return ""
    path = fault_path(scratch, pid)
    try:
        text = path.read_text(errors="replace")
        os.unlink(path)
    except OSError:
        return ""
    return text[:4000]


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
