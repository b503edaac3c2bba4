"""The audit of a grader: what it gives right, wrong and dishonest completions of real rows. Pure: it only grades."""

from rft_cli.grading.audit.report import AuditReport, Finding, Level, Shown
from rft_cli.grading.audit.rows import AuditRow, choose_rows
from rft_cli.grading.audit.run import audit, calls_for
from rft_cli.grading.audit.short_audit import brief_audit, warnings_of

__all__ = [
    "AuditReport",
    "AuditRow",
    "Finding",
    "Level",
    "Shown",
    "audit",
    "brief_audit",
    "calls_for",
    "choose_rows",
    "warnings_of",
]
