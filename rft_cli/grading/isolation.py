"""What a worker process gives up before it runs a scorer: terminal, standard streams, folder, secrets, core dumps.

This keeps a broken scorer from harming the job. It does not hold a hostile one: the process has the user's own
rights, network and files, and on Linux it can read its parent's environment under /proc.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import faulthandler
import os
import re
import resource
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

_SECRET = re.compile(
    r"TOKEN(?!IZER)|SECRET|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL",
    re.IGNORECASE,
)
_PR_SET_PDEATHSIG = 1
CRASH_CODE = 70
"""Exit code in place of 0 when a scorer ends its process: the pool takes 0 for a worker that meant to end."""

_chdir, _getpid, _mkdir, _quit = os.chdir, os.getpid, os.makedirs, os._exit


@dataclass(frozen=True, slots=True)
class Isolation:
    """`scratch` holds one empty folder a worker, `parent` is the process id that must be alive to go on."""

    scratch: str
    log_path: str
    parent: int
    allowed_env: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """The isolated process: its own folder, the file for fault tracebacks, names of withheld variables."""

    pid: int
    folder: str
    faults: TextIO
    withheld: tuple[str, ...]

    def go_home(self) -> None:
        """Back into the worker's own folder, wherever the scorer went; made again if it was deleted."""
        try:
            _chdir(self.folder)
        except OSError:
            _mkdir(self.folder, exist_ok=True)
            _chdir(self.folder)

    def leave_if_forked(self) -> None:
        """End a process that a scorer forked and that came back here: it must not grade on."""
        if _getpid() != self.pid:
            _quit(0)


class Builtins:
    """Python's built-ins as they were: a scorer that patches them must not change the grades after it."""

    def __init__(self) -> None:
        self._names = dict(vars(builtins))
        self._values = list(self._names.values())

    def restore(self) -> None:
        """Undo every change. Costs about 1 µs where there is none."""
        current = vars(builtins)
        if [*current.values()] != self._values:
            current.update(self._names)
            for name in current.keys() - self._names.keys():
                del current[name]
            self._values = [*current.values()]


def secret_names(names: Iterable[str], allowed: Iterable[str]) -> list[str]:
    """The variables that look like secrets by their name and are not allowed."""
    keep = set(allowed)
    return [name for name in names if _SECRET.search(name) and name not in keep]


def fault_path(scratch: str | Path, pid: int) -> Path:
    """Where the worker `pid` leaves its last traceback when it is killed or crashes."""
    return Path(scratch) / f"{pid}.fault"


def enter(isolation: Isolation) -> Cell:
    """Isolate the calling process, for good."""
    pid = os.getpid()
    with contextlib.suppress(OSError):  # already the leader of a session
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # At once, even inside a C loop; Pebble's own handler would wait for the interpreter.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with_parent(isolation.parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _redirect(isolation.log_path)
    withheld = secret_names(list(os.environ), isolation.allowed_env)
    for name in withheld:
        del os.environ[name]
    folder = os.path.join(isolation.scratch, str(pid))
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    os.environ["TMPDIR"] = folder
    faults = fault_path(isolation.scratch, pid).open("w")
    faulthandler.enable(faults)
    os._exit = _exit_not_zero  # type: ignore[assignment]
    return Cell(pid, folder, faults, tuple(withheld))


def limit_memory(megabytes: int) -> None:
    """Limit this process's address space: more raises MemoryError."""
    size = megabytes * 1024 * 1024
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or size < hard:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def repair_streams() -> None:
    """Give sys.stdout and sys.stderr back where a scorer closed or replaced them."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or stream.closed or stream is not getattr(sys, f"__{name}__"):
            with contextlib.suppress(OSError):
                _open_stream(name, number)


def flush_streams() -> None:
    """What was printed goes to the log now; a scorer may have broken the streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _die_with_parent(parent: int) -> None:
    """SIGKILL for this process when its parent dies, however that happens (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            _quit(1)


def _redirect(log_path: str) -> None:
    """Standard input reads nothing; standard output and error go to the log."""
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)
    sys.stdin = os.fdopen(0, closefd=False)
    _open_stream("stdout", 1)
    _open_stream("stderr", 2)


def _open_stream(name: str, number: int) -> None:
    stream = os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def _exit_not_zero(code: int) -> None:
    """What `os._exit` is in a worker: a scorer's os._exit(0) must not look like a worker that meant to end."""
    own = _getpid() == _WORKER_PID
    _quit(code or CRASH_CODE if own else code)


_WORKER_PID = _getpid()
