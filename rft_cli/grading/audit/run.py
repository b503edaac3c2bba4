"""Grade every probe of every row, some of them three times, and judge the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rft_cli.grading.audit.findings import findings_of
from rft_cli.grading.audit.probes import HALF, OTHER, PROBES, REFERENCE, Probe
from rft_cli.grading.audit.report import AuditReport
from rft_cli.grading.audit.results import Tries, Try
from rft_cli.grading.audit.rows import AuditRow
from rft_cli.grading.protocol import Grader
from rft_cli.types import Example, Grade, GradeRequest

CALLS = 3
"""How often a completion is graded that is to be graded alike each time."""
REPEATED_ROWS = 10
_REPEATED = (REFERENCE, OTHER, HALF)

OnProgress = Callable[[int, int], None]
"""Gets the number of grades made and to be made."""


def calls_for(rows: Sequence[AuditRow]) -> int:
    """How many grades the audit of these rows takes."""
    repeated = sum(probe.make(row) is not None for row in rows[:REPEATED_ROWS] for probe in _REPEATED)
    return sum(len(_planned(probe, rows)) for probe in PROBES) + (CALLS - 1) * repeated


def audit(
    grader: Grader,
    rows: Sequence[AuditRow],
    *,
    timeout_s: float,
    signature: str = "",
    sha256: str = "",
    limit_s: float | None = None,
    at_least: int = 1,
    on_progress: OnProgress = lambda done, total: None,
) -> AuditReport:
    """Audit `grader` on `rows` (at least one).

    The references come first. If none of them is graded, nothing else is tried. If the rest would take longer than
    `limit_s` seconds at the pace of the references, fewer rows are taken, but `at_least` so many; 0: nothing else.
    """
    made = _Grading(grader, rows, on_progress)
    seconds = made.references()
    if any(tried.grade.reward is not None for tried in made.by_probe[REFERENCE.name].values()):
        count = _affordable(len(rows), seconds, calls_for(rows), limit_s)
        if max(count, at_least):
            made.keep(min(len(rows), max(count, at_least)))
            made.rest()
    tries = Tries(made.rows, made.by_probe, made.repeats)
    return AuditReport(
        signature=signature,
        sha256=sha256,
        rows=len(made.rows),
        calls=made.done,
        median_honest=tries.median_honest,
        noise=tries.noise,
        gold_failed=sum(tries.gold_fails(place) for place in range(len(made.rows))),
        follows_row=tries.follows_row,
        findings=tuple(findings_of(tries, timeout_s)),
    )


class _Grading:
    """The grades made so far."""

    def __init__(self, grader: Grader, rows: Sequence[AuditRow], on_progress: OnProgress) -> None:
        self.rows = list(rows)
        self.by_probe: dict[str, dict[int, Try]] = {}
        self.repeats: list[tuple[Grade, ...]] = []
        self.done = 0
        self._grader = grader
        self._on_progress = on_progress

    def references(self) -> float:
        """Grade the references; gives the seconds that took, without the start of workers."""
        started = time.monotonic()
        self._try(REFERENCE)
        grading = sum(tried.grade.seconds for tried in self.by_probe[REFERENCE.name].values())
        return min(grading, time.monotonic() - started)

    def keep(self, count: int) -> None:
        """Go on with the first `count` rows alone."""
        self.rows = [
            row if row.other_place is None or row.other_place < count else _without_place(row)
            for row in self.rows[:count]
        ]
        tried = self.by_probe[REFERENCE.name]
        self.by_probe[REFERENCE.name] = {place: tried[place] for place in range(count)}

    def rest(self) -> None:
        """Grade everything but the references."""
        for probe in PROBES:
            if probe is not REFERENCE:
                self._try(probe)
        self._repeat()

    def _try(self, probe: Probe) -> None:
        planned = _planned(probe, self.rows)
        grades = self._grade([_request(self.rows[place].example, text) for place, text in planned])
        self.by_probe[probe.name] = {
            place: Try(place, text, grade) for (place, text), grade in zip(planned, grades, strict=True)
        }

    def _repeat(self) -> None:
        """Grade honest texts again, each time at another place of the call and beside others.

        A grader that seeds its random numbers by place, or grades a batch as a whole, must not look steady by that.
        """
        first = [
            self.by_probe[probe.name][place]
            for place in range(min(REPEATED_ROWS, len(self.rows)))
            for probe in _REPEATED
            if place in self.by_probe[probe.name]
        ]
        requests = [_request(self.rows[t.place].example, t.completion) for t in first]
        backwards = list(range(len(first)))[::-1]
        turned = [*range(len(first) // 2, len(first)), *range(len(first) // 2)]
        again = [self._grade_in(order, requests) for order in (backwards, turned)]
        self.repeats = [(t.grade, *grades) for t, *grades in zip(first, *again, strict=True)]

    def _grade_in(self, order: Sequence[int], requests: Sequence[GradeRequest]) -> list[Grade]:
        """Grade the requests in this order; the grades come in their own."""
        grades = self._grade([requests[index] for index in order])
        return [grade for _, grade in sorted(zip(order, grades, strict=True), key=lambda pair: pair[0])]

    def _grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        grades = self._grader.grade(requests)
        self.done += len(grades)
        self._on_progress(self.done, max(self.done, calls_for(self.rows)))
        return grades


def _planned(probe: Probe, rows: Sequence[AuditRow]) -> list[tuple[int, str]]:
    """Place and text of each row that this probe is tried on."""
    texts = ((place, probe.make(row)) for place, row in enumerate(rows[: probe.max_rows]))
    return [(place, text) for place, text in texts if text is not None]


def _without_place(row: AuditRow) -> AuditRow:
    return AuditRow(row.example, row.reference, row.other, None, row.options)


def _affordable(rows: int, seconds: float, calls: int, limit_s: float | None) -> int:
    """How many of the rows can be audited in `limit_s`, when their references took `seconds`."""
    if limit_s is None or not seconds:
        return rows
    return min(rows, int(rows * limit_s / (seconds * calls / rows)))


def _request(example: Example, completion: str) -> GradeRequest:
    return GradeRequest(completion, example.fields, prompt=example.prompt)
