"""The short audit before a job: a few rows, every probe, and a few lines for people."""

from __future__ import annotations

from collections.abc import Sequence

from rft_cli.config.schema import GraderConfig
from rft_cli.grading.audit.report import AuditReport, Finding
from rft_cli.grading.audit.rows import choose_rows
from rft_cli.grading.audit.run import audit
from rft_cli.grading.protocol import Grader
from rft_cli.types import Example

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
