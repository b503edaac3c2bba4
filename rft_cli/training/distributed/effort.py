"""Whether a process works at all, told by what the system counts: for work that nothing in training can beat for.

A model that loads, a kernel that compiles and a file that is fetched use a processor or a disk. A process that sleeps,
or waits for what never comes, does neither.
"""

from __future__ import annotations

import sys
import time

import psutil

CPU_SHARE = 0.03
"""Of one core. A training process that sleeps uses 0.005 for its signs of life."""
DISK_BYTES = 1 << 14
"""A second; lines of a log are less."""
WINDOW_S = 1.0
"""The system counts in hundredths of a second: over shorter times one of them would be work."""
Counts = tuple[float, int]
"""CPU seconds, and bytes that went from and to disks, where the system tells."""


class Effort:
    """Compares a process and its children with how they stood a while ago."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._at = time.monotonic()
        self._own = _summed([process])
        self._theirs: Counts | None = None
        self._worked = True

    def works(self) -> bool:
        """Whether it did anything worth the name lately, or waits for a disk now. One that has ended works no more."""
        passed = time.monotonic() - self._at
        if passed >= WINDOW_S:
            self._at += passed
            try:
                self._worked = self._look(passed)
            except psutil.NoSuchProcess:
                self._worked = False
        return self._worked

    def _look(self, passed: float) -> bool:
        before, self._own = self._own, _summed([self._process])
        waits_for_a_disk = self._process.status() == psutil.STATUS_DISK_SLEEP
        if waits_for_a_disk or _is_work(before, self._own, passed):
            self._theirs = None
            return True
        # To find the children is to read about every process of the machine: only where all else is still.
        known, self._theirs = self._theirs, _summed(self._process.children(recursive=True))
        return known is None or _is_work(known, self._theirs, passed)


def _summed(processes: list[psutil.Process]) -> Counts:
    used, moved = 0.0, 0
    for process in processes:
        try:
            times = process.cpu_times()
            used += times.user + times.system
            if sys.platform == "linux":
                counted = process.io_counters()
                moved += counted.read_bytes + counted.write_bytes
        except psutil.Error:
            continue  # it has ended, or is another user's
    return used, moved


def _is_work(before: Counts, after: Counts, passed: float) -> bool:
    return after[0] - before[0] > CPU_SHARE * passed or after[1] - before[1] > DISK_BYTES * passed
