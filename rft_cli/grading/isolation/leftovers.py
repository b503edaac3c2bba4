"""Processes that a scorer started and that outlived their worker: found by marks that they can't help carrying.

A forked copy of a worker notes itself as its first act. A program that a scorer starts inherits TMPDIR, which names the
worker's folder, and mostly the folder itself. Only a program started with another environment, in another folder and
another session, is not found. Linux only: elsewhere the worker's process group is all there is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "forked-"
_close, _getpid, _open, _os_error, _read = os.close, os.getpid, os.open, OSError, os.read
_flags = os.O_CREAT | os.O_WRONLY


def note_fork(scratch: str) -> None:
    """Called in a process that was just forked from a worker. Scorers may have patched what it stands on."""
    pid = _getpid()
    try:
        file = _open("/proc/self/stat", 0)
        begun = _start_time(_read(file, 4096))
        _close(file)
        _close(_open(f"{scratch}/{_PREFIX}{pid}-{begun}", _flags, 0o600))
    except _os_error:  # no /proc, or no descriptor left
        return


def kill_leftovers(scratch: Path) -> None:
    """End every process that carries a mark of this folder. Call it when the workers are gone, before it is removed."""
    if sys.platform == "linux":
        for pid in {*_noted(scratch), *_marked(scratch)}:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _noted(scratch: Path) -> Iterator[int]:
    for file in scratch.glob(f"{_PREFIX}*"):
        pid, _, begun = file.name.removeprefix(_PREFIX).partition("-")
        with contextlib.suppress(OSError):  # it has ended
            if (
                _start_time(Path("/proc", pid, "stat").read_bytes()) == begun
            ):  # else the number is another's by now
                yield int(pid)


def _marked(scratch: Path) -> Iterator[int]:
    inside = f"{scratch}{os.sep}"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                # A removed folder reads as "PATH (deleted)", which begins the same way.
                standing = os.readlink(entry / "cwd").startswith(inside)
                if standing or f"\0TMPDIR={inside}".encode() in b"\0" + (entry / "environ").read_bytes():
                    yield int(entry.name)


def _start_time(stat: bytes) -> str:
    """Field 22 of /proc/PID/stat (proc(5)); the second, the name in parentheses, may hold anything."""
    return stat.rpartition(b")")[2].split()[19].decode()
