"""Progress while a job runs, tables at its end. The only importer of rich."""

from rft_cli.console.audit_table import print_audit
from rft_cli.console.events import EventPrinter, Mode, choose_mode
from rft_cli.console.status_line import StatusLine
from rft_cli.console.tables import (
    Check,
    print_checks,
    print_comparison,
    print_estimates,
    print_files,
    print_summary,
)

__all__ = [
    "Check",
    "EventPrinter",
    "Mode",
    "StatusLine",
    "choose_mode",
    "print_audit",
    "print_checks",
    "print_comparison",
    "print_estimates",
    "print_files",
    "print_summary",
]
