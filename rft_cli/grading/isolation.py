"""What a worker process gives up before it runs a scorer: terminal, standard streams, folder, secrets, core dumps.

This keeps a broken scorer from harming the job. It does not hold a hostile one: the process has the user's own
rights, network and files, and on Linux it can read its parent's environment under /proc.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import faulthandler
import fcntl
import mmap
import os
import re
import resource
import signal
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rft_cli.grading.capture import Streams, output_path
from rft_cli.grading.leftovers import note_fork
from rft_cli.grading.network import CONNECTING, REFUSED, leave_network

_SECRET = re.compile(
    r"TOKEN(?!IZER)|SECRET|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL"
    r"|_(?:KEY|PASS|PWD|PAT|AUTH|DSN|JWT|COOKIE)$|CONNECTION_STRING|DATABASE_URL|WEBHOOK",
    re.IGNORECASE,
)
_PR_SET_PDEATHSIG = 1
TASK_BYTES = 8
_PIPE_BYTES = 1 << 20

_MOVES = frozenset({"os.chdir", "os.rmdir", "os.rename"})
_UNIX = 1  # AF_UNIX, which is not worth importing socket for
_get_limit, _set_limit = sys.getrecursionlimit, sys.setrecursionlimit
_get_trace, _set_trace, _get_profile, _set_profile = (
    sys.gettrace,
    sys.settrace,
    sys.getprofile,
    sys.setprofile,
)
_fstat, _os_error, _samestat = os.fstat, OSError, os.path.samestat
_chdir, _getpid, _mkdir, _quit = os.chdir, os.getpid, os.makedirs, os._exit


@dataclass(frozen=True, slots=True)
class Isolation:
    """`scratch` holds one empty folder a worker, `parent` is the process id that must be alive to go on.

    `key_env`: variables that hold a judge's key, whatever their name. `keep_output`: what a scorer prints is not logged
    but taken after each grade. `offline`: no network.
    """

    scratch: str
    log_path: str
    parent: int
    allowed_env: tuple[str, ...]
    key_env: tuple[str, ...] = ()
    keep_output: bool = False
    offline: bool = False


class _Guard:
    """Sees what a scorer does as it happens (PEP 578): leaving its folder, forking; and refuses the network."""

    def __init__(self, offline: bool, scratch: str) -> None:
        self.moved = False
        self.forked = False
        self._scratch = scratch
        os.register_at_fork(after_in_child=self._note_fork)
        self._refused = CONNECTING if offline else frozenset()
        sys.addaudithook(self._see)

    def _note_fork(self) -> None:
        self.forked = True
        note_fork(self._scratch)

    def _see(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in _MOVES:
            self.moved = True
        elif event in self._refused and not _is_local(arguments):
            raise PermissionError(REFUSED)


@dataclass(slots=True)
class Cell:
    """The isolated process: its own folder, the file for fault tracebacks, names of withheld variables.

    `task` is the file that holds the number of the task at hand, in memory: closing descriptors does not reach it, and
    writing to it costs next to nothing. `pipes` are the pool's descriptors.
    """

    pid: int
    folder: str
    faults: TextIO
    withheld: tuple[str, ...]
    streams: Streams
    guard: _Guard
    task: mmap.mmap
    pipes: tuple[tuple[int, os.stat_result], ...]

    def begin(self, task: int) -> None:
        """A task begins. If this process dies, its number says whose fault that was."""
        self.task[:] = task.to_bytes(TASK_BYTES, "little")

    def leave_if_cut_off(self) -> None:
        """End this process where the scorer closed or replaced the pool's descriptors: it could only wait for ever."""
        for number, before in self.pipes:
            try:
                same = _samestat(_fstat(number), before)
            except _os_error:
                same = False
            if not same:
                _quit(1)

    def go_home(self, *, surely: bool = False) -> None:
        """Back into the worker's own folder, wherever the scorer went; made again if it was deleted.

        `surely`: also where only C code could have left it.
        """
        if not (surely or self.guard.moved):
            return
        try:
            _chdir(self.folder)
        except OSError:
            _mkdir(self.folder, exist_ok=True)
            _chdir(self.folder)
        self.guard.moved = False

    def leave_if_forked(self, *, surely: bool = False) -> None:
        """End a process that a scorer forked and that came back here: it must not grade on.

        `surely`: also where only C code could have forked it.
        """
        if self.guard.forked or (surely and _getpid() != self.pid):
            _quit(0)


class Interpreter:
    """Python's built-ins and the interpreter's own settings as they were: a scorer that changes them must not change
    the grades after it. Make it when the scorer is loaded: what the file sets at its import is meant."""

    def __init__(self) -> None:
        self._names = dict(vars(builtins))
        self._values = list(self._names.values())
        self._limit, self._trace, self._profile = _get_limit(), _get_trace(), _get_profile()

    def restore(self) -> None:
        """Undo every change. Costs about 1 µs where there is none."""
        if _get_trace() is not self._trace:
            _set_trace(self._trace)
        if _get_profile() is not self._profile:
            _set_profile(self._profile)
        if _get_limit() != self._limit:
            _set_limit(self._limit)
        current = vars(builtins)
        if [*current.values()] != self._values:
            current.update(self._names)
            for name in current.keys() - self._names.keys():
                del current[name]
            self._values = [*current.values()]


def secret_names(names: Iterable[str], allowed: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """The variables that are `known` to hold a key or look like secrets by their name, and are not allowed."""
    keep, held = set(allowed), set(known)
    return [name for name in names if name not in keep and (name in held or _SECRET.search(name))]


def fault_path(scratch: str | Path, pid: int) -> Path:
    """Where the worker `pid` leaves its last traceback when it is killed or crashes."""
    return Path(scratch) / f"{pid}.fault"


def task_path(scratch: str | Path, pid: int) -> Path:
    """Where the worker `pid` keeps the number of the task at hand, 8 bytes little-endian; 0 is none."""
    return Path(scratch) / f"{pid}.task"


def _task_file(path: Path) -> mmap.mmap:
    path.write_bytes(bytes(TASK_BYTES))
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), TASK_BYTES)


def enter(isolation: Isolation) -> Cell:
    """Isolate the calling process, for good."""
    pid = os.getpid()
    pipes = tuple(_open_descriptors())
    for number, status in pipes:
        if stat.S_ISFIFO(status.st_mode):
            _widen(number)
    with contextlib.suppress(OSError):  # already the leader of a session
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # At once, even inside a C loop; Pebble's own handler would wait for the interpreter.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if isolation.offline:
        leave_network()  # before the next line: a change of namespace may undo it
    _die_with_parent(isolation.parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _close_input()
    kept = str(output_path(isolation.scratch, pid))
    streams = Streams(kept if isolation.keep_output else isolation.log_path, keep=isolation.keep_output)
    withheld = secret_names(list(os.environ), isolation.allowed_env, isolation.key_env)
    for name in withheld:
        del os.environ[name]
    folder = os.path.join(isolation.scratch, str(pid))
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    os.environ["TMPDIR"] = folder
    faults = fault_path(isolation.scratch, pid).open("w")
    faulthandler.enable(faults)
    return Cell(
        pid,
        folder,
        faults,
        tuple(withheld),
        streams,
        _Guard(isolation.offline, isolation.scratch),
        _task_file(task_path(isolation.scratch, pid)),
        pipes,
    )


def _widen(pipe: int) -> None:
    """Room for a whole chunk of completions: a pipe of the usual 64 kB makes both sides wait for each other."""
    with contextlib.suppress(OSError, AttributeError):  # a limit of the system's, or no Linux
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _open_descriptors() -> Iterator[tuple[int, os.stat_result]]:
    """The descriptors above the standard ones, and what they are open on."""
    for number in range(3, 256):
        with contextlib.suppress(OSError):
            yield number, os.fstat(number)


def limit_memory(megabytes: int) -> None:
    """Limit this process's address space: more raises MemoryError."""
    size = megabytes * 1024 * 1024
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or size < hard:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _die_with_parent(parent: int) -> None:
    """SIGKILL for this process when its parent dies, however that happens (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            _quit(1)


def _is_local(arguments: tuple[object, ...]) -> bool:
    """Whether a socket event is about a socket of the file system, which reaches no other machine."""
    family = getattr(arguments[0], "family", None) if arguments else None
    return family == _UNIX


def _close_input() -> None:
    """Standard input reads nothing."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = os.fdopen(0, closefd=False)
