"""Isolates a worker process before it runs a scorer: signals, standard streams, folder, core dumps.

This keeps a broken scorer from harming the job. It does not stop a hostile one: the process has the user's own
rights, network and files, and on Linux it can reach other processes of the user under /proc, their environment and
open files included.
"""

from __future__ import annotations

import builtins
import ctypes
import faulthandler
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rft_cli.grading.isolation.openai import OpenAIAccess, leave_network
from rft_cli.grading.isolation.output import Streams, output_path

_SECRET = re.compile(
    r"TOKEN(?!IZER)|SECRET|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL"
    r"|_(?:KEY|PASS|PWD|PAT|AUTH|DSN|JWT|COOKIE)$|CONNECTION_STRING|DATABASE_URL|WEBHOOK",
    re.IGNORECASE,
)
CUT_OFF = 70
"""Exit code of a process that can't answer any more: some completion before the last begun may be to blame."""
_PR_SET_PDEATHSIG = 1

_MOVES = frozenset({"os.chdir", "os.rmdir", "os.rename"})
_SETTINGS = (
    (sys.gettrace, sys.settrace),
    (sys.getprofile, sys.setprofile),
    (sys.getrecursionlimit, sys.setrecursionlimit),
)
_chdir, _mkdir, _os_error, _quit = os.chdir, os.makedirs, OSError, os._exit
_builtins = vars(builtins)


@dataclass(frozen=True, slots=True)
class Isolation:
    """`scratch` holds one folder a worker, `parent` is the process id that must be alive to go on.

    `withheld`: names of variables that were left out of the environment. `keep_output`: what a scorer prints is not
    logged but taken after each grade. `openai`: no network, no files of this machine, only the packages of OpenAI's
    image.
    """

    scratch: str
    log_path: str
    parent: int
    withheld: tuple[str, ...] = ()
    keep_output: bool = False
    openai: bool = False


class IsolatedProcess:
    """Isolates the calling process, for good. `pipes` are the descriptors by which it talks to its parent.

    It runs in `home`, the user's folder; where there is none, and under OpenAI's limits, in its own `folder`. `faults`
    is the file for fault tracebacks. `moved`: the scorer may have left the folder. `forked`: this is a process that the
    scorer forked. `forking`: the next fork is rft's own.
    """

    def __init__(self, isolation: Isolation, folder: str, pipes: tuple[int, ...], home: str = "") -> None:
        # Ctrl-C is the parent's to handle. SIGTERM ends the process even in a C loop: a handler in Python would wait.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if isolation.openai:
            # Before the next line: a change of namespace may undo it.
            leave_network()
        die_with_parent(isolation.parent)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        output = str(output_path(folder)) if isolation.keep_output else isolation.log_path
        self.streams = Streams(output, keep=isolation.keep_output)
        self.pid = os.getpid()
        self.folder = folder
        self.home = folder if isolation.openai or not os.path.isdir(home) else home
        os.chdir(self.home)
        self.faults = fault_path(folder).open("a")
        faulthandler.enable(self.faults)
        self.withheld = isolation.withheld
        self.pipes = pipes
        self.moved = self.forked = self.forking = False
        self._check: Callable[[str, tuple[object, ...]], None] | None = None
        if isolation.openai:
            self._check = OpenAIAccess(folder, (output, f"{isolation.scratch}{os.sep}")).check
        os.register_at_fork(after_in_child=self._note_fork)
        sys.addaudithook(self._note_event)

    def leave_if_forked(self) -> None:
        """End a process that a scorer forked and that came back here: it must not grade on."""
        if self.forked:
            _quit(0)

    def go_home(self) -> None:
        """Back home, wherever the scorer went; the process's own folder is made again if it was deleted."""
        _mkdir(self.folder, exist_ok=True)
        try:
            _chdir(self.home)
        except _os_error:
            # The user's folder is gone.
            _chdir(self.folder)
        self.moved = False

    def _note_event(self, event: str, arguments: tuple[object, ...]) -> None:
        """Called with each audit event (PEP 578)."""
        if event in _MOVES:
            self.moved = True
        elif self._check is not None:
            self._check(event, arguments)

    def _note_fork(self) -> None:
        self.forked = not self.forking
        self.forking = False


class Interpreter:
    """Remembers Python's built-ins and the interpreter's settings, and restores them after each call of the scorer.

    Make it when the scorer is loaded: what the file sets at its import stays.
    """

    def __init__(self) -> None:
        self._names = dict(vars(builtins))
        self._values = list(self._names.values())
        self._settings = [(get, put, get()) for get, put in _SETTINGS]

    def restore(self) -> None:
        """Undo every change."""
        for get, put, value in self._settings:
            if get() != value:
                put(value)  # type: ignore[arg-type]
        current = _builtins
        if [*current.values()] != self._values:
            current.update(self._names)
            for name in current.keys() - self._names.keys():
                del current[name]
            self._values = [*current.values()]


def secret_names(names: Iterable[str], allowed: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """Names that are `known` to hold a key, or look like secrets, and are not allowed."""
    keep, held = set(allowed), set(known)
    return [name for name in names if name not in keep and (name in held or _SECRET.search(name))]


def fault_path(folder: str) -> Path:
    """Where the worker of this folder leaves its last traceback when it is killed or crashes."""
    return Path(f"{folder}.fault")


def limit_memory(megabytes: int) -> None:
    """Limit this process's address space: more raises MemoryError."""
    size = megabytes * 1024 * 1024
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or size < hard:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when its parent dies, however that happens (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # It may have died before the call above.
        if os.getppid() != parent:
            _quit(1)
