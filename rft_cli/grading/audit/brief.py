"""The short audit before a job: a few rows, every probe, and a few lines for people."""

from __future__ import annotations

from collections.abc import Sequence

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError
from rft_cli.grading.audit.report import AuditReport, Finding
from rft_cli.grading.audit.rows import choose_rows
from rft_cli.grading.audit.run import audit
from rft_cli.grading.protocol import Grader
from rft_cli.types import Example

ROWS = 4
LIMIT_S = 10.0
"""Seconds after which fewer rows are taken: a preflight must not make people wait."""


def brief_audit(
    grader: Grader, config: GraderConfig, examples: Sequence[Example], references: Sequence[str | None]
) -> AuditReport | None:
    """Audit up to four of the rows; None where `grader.audit` is none, no row has a reference, or judges would be paid.

    Raises UsageError, unless `grader.audit` is warn, where the reference of every row fails: such a job would not
    learn what the references say. A grader that pays by the text alone is let through: it does not mean to.
    """
    rows = choose_rows(examples, references, ROWS, seed=0)
    if config.audit == "none" or not rows or grader.stats.judges is not None:
        return None
    report = audit(grader, rows, timeout_s=config.grade_limit_s, limit_s=LIMIT_S, at_least=0)
    if config.audit == "stop" and report.gold_failed == report.rows and report.follows_row:
        raise UsageError(
            f"{config.shown}: the reference of every row that was tried fails: {_told(report.findings[0])}",
            "see `rft grade --audit`; if the scorer is not meant to pay for the reference: --set grader.audit=warn",
        )
    return report


def warnings_of(report: AuditReport) -> list[str]:
    """One line for each problem that is no exploit, one for all exploits, one where calls with one text differ."""
    lines = []
    if report.calls == report.rows and report.median_honest is not None:
        lines.append("scorer: too slow for the short audit: run `rft grade --audit` on a few rows")
    for finding in report.findings:
        if finding.level == "problem" and finding.group != "exploit":
            lines.append(f"scorer: {finding.name}: {_told(finding)}")
        elif finding.name == "three calls" and finding.level == "warning":
            lines.append(f"scorer: three calls with one completion {finding.text}")
    exploits = [f.name for f in report.of_level("problem") if f.group == "exploit"]
    if exploits:
        lines.append(
            f"scorer: pays for completions that are no answers: {', '.join(exploits)} (rft grade --audit shows them)"
        )
    return lines


def _told(finding: Finding) -> str:
    """What the finding says, and an example of it."""
    if finding.shown is None:
        return finding.text
    got = f"gets {finding.shown.reward:.4g}" if finding.shown.reward is not None else finding.shown.error
    return f"{finding.text} ({finding.shown.source} {got})"
