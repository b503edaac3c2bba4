"""The audit of a grader: which rewards right, wrong and dishonest completions of real rows get. It only grades."""

from rft_cli.grading.audit.results import AuditReport, Evidence, Finding, Level
from rft_cli.grading.audit.rows import AuditRow, choose_rows
from rft_cli.grading.audit.run import audit, brief_audit, calls_for, warnings_of

__all__ = [
    "AuditReport",
    "AuditRow",
    "Evidence",
    "Finding",
    "Level",
    "audit",
    "brief_audit",
    "calls_for",
    "choose_rows",
    "warnings_of",
]
