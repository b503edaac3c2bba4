"""A child process, by its id: whether it has ended or was stopped, and how it is killed with what it started."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import NamedTuple

from rft_cli.grading.isolation.process import CUT_OFF

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
