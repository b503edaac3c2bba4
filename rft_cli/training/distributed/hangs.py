"""Whether several processes still get on: what their parent makes of the signs of life they send.

Processes that train together wait for one another, so the job hangs when none of them gets on any more. The one that
doesn't wait for others is to blame. Slow is no hang: what a phase has once needed, it may need five times over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rft_cli.training.distributed.effort import Work

FIRST_S = 600.0
"""Seconds that a phase may be still before it was seen once, if the process computes: kernels are compiled, caches are
cold. While it moves data from or to a disk it gets on: models load."""
TIMES_LONGEST = 5.0
SILENT_S = 5.0
"""A process that has given no sign for this long, where one comes every second, is the one that is stuck."""
MOST_TICK_S = 1.0
"""Time counts at most so much a look: a parent that was itself stopped (Ctrl-Z) has seen nothing meanwhile."""


@dataclass(slots=True)
class Patient:
    """What is known of one process.

    Seconds: `silent` since its last sign of life, `still` since it last got on, `idle` since it last worked at all.
    """

    silent: float = 0.0
    still: float = 0.0
    idle: float = 0.0
    beats: int = -1
    phase: str = "starting"
    where: str = ""
    waits: bool = False
    seen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Hang:
    """The job stands still since `seconds`. `rank` is to blame; None: all wait for one another."""

    rank: int | None
    seconds: float
    silent: bool


@dataclass(slots=True)
class HangWatch:
    """`limit_s`: seconds without progress, in a phase that was seen before, after which the job counts as hung.

    `grading_s`: what grading may take longer between two grades, because it has deadlines of its own.
    """

    limit_s: float
    grading_s: float
    patients: dict[int, Patient]
    still: float = 0.0
    longest: dict[str, float] = field(default_factory=dict)

    @classmethod
    def over(cls, ranks: int, limit_s: float, grading_s: float = 0.0) -> HangWatch:
        return cls(limit_s, grading_s, {rank: Patient() for rank in range(ranks)})

    def sign(self, rank: int, row: Mapping[str, Any]) -> None:
        """A sign of life came: `row` has the fields of `Vitals`."""
        patient = self.patients.get(rank)
        if patient is None:
            return
        if row["beats"] != patient.beats:
            for phase in {p.phase for p in self._working()}:
                self.longest[phase] = max(self.longest.get(phase, 0.0), self.still)
            self.still = patient.still = 0.0
        patient.silent = 0.0
        patient.beats, patient.phase = row["beats"], row["phase"]
        patient.where, patient.waits = row["where"], row["waits"]
        patient.seen = frozenset(row["seen"])

    def leave(self, rank: int) -> None:
        """This process has ended, well or not: nobody waits for signs of it."""
        self.patients.pop(rank, None)

    def tick(
        self,
        seconds: float,
        is_stopped: Callable[[int], bool] = lambda _: False,
        work: Callable[[int], Work] = lambda _: Work.COMPUTING,
    ) -> Hang | None:
        """So much time has passed; says whether the job hangs.

        `is_stopped`, `work`: what the system says of this process; `work` is asked in phases that are new.
        """
        if not self.patients:
            return None
        passed = min(seconds, MOST_TICK_S)
        self.still += passed
        for rank, patient in self.patients.items():
            patient.silent += passed
            patient.still += passed
            found = Work.COMPUTING if _knows(patient) else work(rank)
            patient.idle = patient.idle + passed if found is Work.IDLE else 0.0
            if found is Work.MOVING:  # a model on a slow line, a checkpoint on a slow drive
                self.still = patient.still = 0.0
        stuck = [rank for rank, patient in self.patients.items() if self._is_stuck(patient, rank, is_stopped)]
        if stuck:
            return Hang(stuck[0], self.patients[stuck[0]].silent, silent=True)
        if self.still <= max(self.patience(p) for p in self._working()):
            return None
        silent = max(self.patients, key=lambda rank: self.patients[rank].silent)
        if self.patients[silent].silent > SILENT_S:
            return Hang(silent, self.patients[silent].silent, silent=True)
        ranks = [rank for rank, p in self.patients.items() if not p.waits]
        longest = max(ranks, key=lambda rank: self.patients[rank].still, default=None)
        return Hang(longest, self.still, silent=False)

    def patience(self, patient: Patient) -> float:
        """Seconds that the phase of this process may take without a sign of progress."""
        # A scorer may wait for a server while it is imported, and has a deadline for that.
        new = not _knows(patient) and (patient.phase == "grading" or self._busy(patient))
        first = FIRST_S if new else 0.0
        seconds = max(self.limit_s, first, TIMES_LONGEST * self.longest.get(patient.phase, 0.0))
        return seconds + (self.grading_s if patient.phase == "grading" else 0.0)

    def _is_stuck(self, patient: Patient, rank: int, is_stopped: Callable[[int], bool]) -> bool:
        """Silent for too long. What loads or compiles may keep its interpreter busy for ten minutes, if it works."""
        if patient.silent <= self.limit_s:
            return False
        excused = not _knows(patient) and self._busy(patient) and not is_stopped(rank)
        return not excused or patient.silent > FIRST_S

    def _busy(self, patient: Patient) -> bool:
        return patient.idle <= self.limit_s

    def _working(self) -> list[Patient]:
        """Those that don't wait for others; all of them where all wait."""
        everyone = list(self.patients.values())
        return [p for p in everyone if not p.waits] or everyone


def _knows(patient: Patient) -> bool:
    """Whether it is in a phase that it has been in before. How long saving takes is up to the drive, each time."""
    return patient.phase in patient.seen and patient.phase != "saving"
