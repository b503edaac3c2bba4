"""Whether a process works at all, told by what the system counts: for work that nothing in training can beat for.

A model that loads, a kernel that compiles and a file that is fetched use a processor or a disk. A process that sleeps,
or waits for what never comes, does neither.
"""

from __future__ import annotations

import sys
import time
from enum import Enum

import psutil

CPU_SHARE = 0.03
"""Of one core. A training process that sleeps uses 0.005 for its signs of life."""
DISK_BYTES = 1 << 14
"""A second; lines of a log are less."""
WINDOW_S = 1.0
"""The system counts in hundredths of a second: over shorter times one of them would be work."""
_WAITING = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
"""States of a main thread that would work if it were let: other processes have the processor, or a drive is slow."""
Counts = tuple[float, int]
"""CPU seconds, and bytes that went from and to disks, where the system tells."""


class Work(Enum):
    """What a process does. `COMPUTING` may be a loop that never ends, `MOVING` data from or to a disk is none."""

    IDLE = "idle"
    COMPUTING = "computing"
    MOVING = "moving"


class Effort:
    """Compares a process and its children with how they stood a while ago."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._at = time.monotonic()
        self._own = _summed([process])
        self._theirs: Counts | None = None
        self._found = Work.COMPUTING

    def look(self) -> Work:
        """What it did lately. One that waits for a processor or a disk now computes; one that has ended is idle."""
        passed = time.monotonic() - self._at
        if passed >= WINDOW_S:
            self._at += passed
            try:
                self._found = self._compare(passed)
            except psutil.NoSuchProcess:
                self._found = Work.IDLE
        return self._found

    def _compare(self, passed: float) -> Work:
        before, self._own = self._own, _summed([self._process])
        found = _work(before, self._own, passed)
        if found is Work.IDLE and self._process.status() in _WAITING:
            found = Work.COMPUTING
        if found is not Work.IDLE:
            self._theirs = None
            return found
        # To find the children is to read about every process of the machine: only where all else is still.
        known, self._theirs = self._theirs, _summed(self._process.children(recursive=True))
        return Work.COMPUTING if known is None else _work(known, self._theirs, passed)


def _summed(processes: list[psutil.Process]) -> Counts:
    used, moved = 0.0, 0
    for process in processes:
        try:
            times = process.cpu_times()
            used += times.user + times.system
            if sys.platform == "linux":
                counted = process.io_counters()
                moved += counted.read_bytes + counted.write_bytes
        except (psutil.Error, OSError, RuntimeError, ValueError, AttributeError):
            continue  # it has ended, or is another user's; or this system does not count that
    return used, moved


def _work(before: Counts, after: Counts, passed: float) -> Work:
    if after[1] - before[1] > DISK_BYTES * passed:
        return Work.MOVING
    return Work.COMPUTING if after[0] - before[0] > CPU_SHARE * passed else Work.IDLE
