"""Grades every probe of every row, some of them three times, and reports on the results; short before a job."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rft_cli.config.schema import GraderConfig
from rft_cli.grading.audit.findings import findings_of
from rft_cli.grading.audit.probes import HALF, OTHER, PROBES, REFERENCE, Probe
from rft_cli.grading.audit.results import AuditReport, Finding, Result, Results
from rft_cli.grading.audit.rows import AuditRow, choose_rows
from rft_cli.grading.protocol import Grader
from rft_cli.types import Example, Grade, GradeRequest

CALLS = 3
"""How often one text is graded to see whether its reward stays the same."""
REPEATED_ROWS = 10
_REPEATED = (REFERENCE, OTHER, HALF)

OnProgress = Callable[[int, int], None]
"""Gets the number of grades made and to be made."""


def calls_for(rows: Sequence[AuditRow]) -> int:
    """How many grades the audit of these rows takes."""
    repeated = sum(probe.make(row) is not None for row in rows[:REPEATED_ROWS] for probe in _REPEATED)
    return sum(len(_texts(probe, rows)) for probe in PROBES) + (CALLS - 1) * repeated


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
    run = _Run(grader, rows, on_progress)
    seconds = run.grade_references()
    if any(result.grade.reward is not None for result in run.by_probe[REFERENCE.name].values()):
        count = max(_affordable(len(rows), seconds, calls_for(rows), limit_s), at_least)
        if count:
            run.keep(count)
            run.grade_rest()
    results = Results(run.rows, run.by_probe, run.repeats)
    return AuditReport(
        signature=signature,
        sha256=sha256,
        rows=len(run.rows),
        calls=run.calls,
        median_honest=results.median_honest,
        noise=results.noise,
        findings=tuple(findings_of(results, timeout_s)),
    )


class _Run:
    """The grades made so far."""

    def __init__(self, grader: Grader, rows: Sequence[AuditRow], on_progress: OnProgress) -> None:
        self.rows = rows
        self.by_probe: dict[str, dict[int, Result]] = {}
        self.repeats: list[tuple[Grade, ...]] = []
        self.calls = 0
        self._grader = grader
        self._on_progress = on_progress

    def grade_references(self) -> float:
        """Grade the references; gives the seconds that took, without the start of workers."""
        started = time.monotonic()
        self._try(REFERENCE)
        grading = sum(result.grade.seconds for result in self.by_probe[REFERENCE.name].values())
        return min(grading, time.monotonic() - started)

    def keep(self, count: int) -> None:
        """Go on with the first `count` rows alone."""
        self.rows = self.rows[:count]
        graded = self.by_probe[REFERENCE.name]
        self.by_probe[REFERENCE.name] = {place: graded[place] for place in range(len(self.rows))}

    def grade_rest(self) -> None:
        """Grade everything but the references."""
        for probe in PROBES:
            if probe is not REFERENCE:
                self._try(probe)
        self._repeat()

    def _try(self, probe: Probe) -> None:
        texts = _texts(probe, self.rows)
        grades = self._grade([self._request(place, text) for place, text in texts])
        self.by_probe[probe.name] = {
            place: Result(place, text, grade) for (place, text), grade in zip(texts, grades, strict=True)
        }

    def _repeat(self) -> None:
        """Grade honest texts again, each time at another place of the call and beside others.

        A grader that seeds random numbers by place, or grades a batch as a whole, must not look steady by that.
        """
        first = [
            self.by_probe[probe.name][place]
            for place in range(min(REPEATED_ROWS, len(self.rows)))
            for probe in _REPEATED
            if place in self.by_probe[probe.name]
        ]
        requests = [self._request(result.place, result.completion) for result in first]
        half = len(requests) // 2
        backwards = self._grade(requests[::-1])[::-1]
        turned = self._grade(requests[half:] + requests[:half])
        turned = turned[len(turned) - half :] + turned[: len(turned) - half]
        self.repeats = [
            (result.grade, *grades) for result, *grades in zip(first, backwards, turned, strict=True)
        ]

    def _request(self, place: int, completion: str) -> GradeRequest:
        example = self.rows[place].example
        return GradeRequest(completion, example.fields, prompt=example.prompt)

    def _grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        grades = self._grader.grade(requests)
        self.calls += len(grades)
        self._on_progress(self.calls, max(self.calls, calls_for(self.rows)))
        return grades


def _texts(probe: Probe, rows: Sequence[AuditRow]) -> list[tuple[int, str]]:
    """Place and text of each row that this probe is tried on."""
    texts = ((place, probe.make(row)) for place, row in enumerate(rows[: probe.max_rows]))
    return [(place, text) for place, text in texts if text is not None]


def _affordable(rows: int, seconds: float, calls: int, limit_s: float | None) -> int:
    """How many of the rows can be audited in `limit_s`, when their references took `seconds`."""
    if limit_s is None or not seconds:
        return rows
    return min(rows, int(rows * limit_s / (seconds * calls / rows)))


ROWS = 4
_ANOTHER_FORM = "; that is fine if the scorer wants more than the bare reference, such as steps before it"
LIMIT_S = 10.0
"""Seconds after which fewer rows are taken: a preflight must not make people wait."""


def brief_audit(
    grader: Grader, config: GraderConfig, examples: Sequence[Example], references: Sequence[str | None]
) -> AuditReport | None:
    """Audit up to four of the rows; None where `grader.audit` is none, no row has a reference, or judges would be paid.

    It stops nothing: a reference is not always a completion, and rft invents what it tries.
    """
    rows = choose_rows(examples, references, ROWS, seed=0)
    if config.audit == "none" or not rows or grader.stats.judges is not None:
        return None
    return audit(grader, rows, timeout_s=config.grade_limit_s, limit_s=LIMIT_S, at_least=0)


def warnings_of(report: AuditReport) -> list[str]:
    """One line for each problem that is not an exploit, one for all exploits, one where calls with one text differ.

    Where no reference earns anything, wrong completions that earn as little are left out; so are texts on which the
    scorer fails, which the preflight reports.
    """
    lines = []
    useless = any(_pays(f) and f.group == "reference" and f.hits == f.rows for f in report.findings)
    groups = ("reference",) if useless else ("reference", "wrong")
    if report.calls == report.rows and report.median_honest is not None:
        lines.append("scorer: too slow for the short audit: run `rft grade --audit` on a few rows")
    for finding in report.findings:
        if _pays(finding) and finding.group in groups:
            name = "" if "the reference earns" in finding.text else f"{finding.name}: "
            more = _ANOTHER_FORM if finding.group == "reference" else ""
            lines.append(f"scorer: {name}{_describe(finding)}{more}")
        elif finding.name == "three calls" and finding.level == "warning":
            lines.append(f"scorer: three calls with one completion {finding.text}")
    exploits = [f.name for f in report.findings if _pays(f) and f.group == "exploit"]
    if exploits:
        lines.append(
            "scorer: some texts that are not answers earn as much as right ones: "
            f"{', '.join(exploits)} (rft grade --audit shows them)"
        )
    return lines


def _pays(finding: Finding) -> bool:
    """Whether the problem is a reward, not a text on which the scorer fails."""
    return finding.level == "problem" and (
        finding.example is None or finding.example.error in (None, "skipped")
    )


def _describe(finding: Finding) -> str:
    """The finding's text, and an example of it."""
    if finding.example is None:
        return finding.text
    got = (
        f"gets {finding.example.reward:.4g}" if finding.example.reward is not None else finding.example.error
    )
    return f"{finding.text} ({finding.example.row} {got})"
