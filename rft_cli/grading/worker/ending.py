"""How a child process ended, and why: how it is killed with what it started, and what it left to say where."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rft_cli.grading.isolation.output import MOST, output_path, shorten
from rft_cli.grading.isolation.process import CUT_OFF, fault_path
from rft_cli.grading.worker.messages import Outcome, ScorerSource, late_message

_PATIENCE_S = 0.5


class Ending(NamedTuple):
    """How a process ended: `code` as subprocess has it (negative: a signal; -SIGSTOP: it was stopped, then killed).

    `late`: it was killed because its time was over. `garbled`: it lived, but its pipes were of no use any more.
    """

    code: int
    late: bool = False
    garbled: bool = False


class Child:
    """A child of this process, the first of its process group. `handle` becomes readable when it ends (-1: none)."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.handle = -1
        if hasattr(os, "pidfd_open"):
            # Its pipes don't show its end: a child of its own may hold them open.
            with contextlib.suppress(OSError):
                self.handle = os.pidfd_open(pid)

    def gone(self) -> bool:
        """Whether it has ended, without reaping it."""
        return self._is(os.WEXITED)

    def stopped(self) -> bool:
        """Whether it was stopped (SIGSTOP): it would never answer."""
        return self._is(os.WSTOPPED)

    def _is(self, state: int) -> bool:
        # There is no child to wait for in a state that it can't reach any more.
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, self.pid, state | os.WNOHANG | os.WNOWAIT) is not None
        return False

    def end(self, *, late: bool = False, at_once: bool = False) -> Ending:
        """Kill what is left of it and of its process group, and reap it; how it ended.

        A process that closed its pipes is about to end by itself, and its own exit code says more: it gets half a
        second, unless it is `late` or not wanted any more (`at_once`).
        """
        stopped = self.stopped()
        waits = not (late or at_once or stopped)
        deadline = time.monotonic() + (_PATIENCE_S if waits else 0)
        while not self.gone() and time.monotonic() < deadline:
            time.sleep(0.002)
        lives = not self.gone()
        for kill in (os.kill, os.killpg):
            with contextlib.suppress(OSError):
                kill(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if self.handle >= 0:
            os.close(self.handle)
        return Ending(-signal.SIGSTOP if stopped else code, late, waits and (lives or code == CUT_OFF))


_GARBLED = "broke or garbled the pipe by which it answers, so rft ended the process"
_TRACE_CHARS = 4000
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


@dataclass(frozen=True, slots=True)
class Crash:
    """How a process died. `late`: its time was over. `place` is the scorer's file:line where that is known.

    `output`: what the scorer printed last, where that is kept. `exact` is false where the process may have begun other
    completions after the one at fault.
    """

    late: bool
    place: str
    text: str
    trace: str = ""
    output: str = ""
    exact: bool = True

    def outcome(self, timeout_s: float) -> Outcome:
        """The failed grade of the completion that the process had begun."""
        if self.late:
            message = late_message(self.place, timeout_s)
            return Outcome(None, {}, "timeout", message, self.trace, timeout_s, self.output)
        return Outcome(None, {}, "died", f"{self.place}: {self.text}", self.trace, 0.0, self.output)


def read_crash(
    folder: str, source: ScorerSource, ending: Ending, doing: str, output: str | None = None
) -> Crash:
    """Describe the end of the process of this folder. `doing` completes the sentence "… ended the process".

    `output` is what the scorer printed; None: it is read from the folder.
    """
    trace = _read(fault_path(folder))[:_TRACE_CHARS]
    if output is None:
        output = _read(output_path(folder))
    frame = next((m for m in _FRAME.finditer(trace) if m["file"] == source.path), None)
    place = source.shown if frame is None else f"{source.shown}:{frame['line']}"
    late = ending.late or trace.startswith("Timeout (")
    return Crash(late, place, _ended(doing, ending), trace, output, not ending.garbled)


def _ended(doing: str, ending: Ending) -> str:
    if ending.garbled:
        return f"{doing} {_GARBLED}"
    if ending.code == -signal.SIGSTOP:
        return f"{doing} stopped the process (SIGSTOP), so rft ended it"
    return f"{doing} ended the process ({_exit_words(ending.code)})"


def _exit_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", perhaps out of memory" if name == "SIGKILL" else ""
    return f"{name}{hint}"


def _read(path: Path) -> str:
    """The beginning of a file that a worker wrote; empty where there is none."""
    try:
        with path.open("rb") as file:
            return shorten(file.read(MOST + 1))
    except OSError:
        return ""
