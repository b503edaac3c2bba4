"""`rft grade --audit`: the grader's own tests, on real rows."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from rft_cli.commands import terminal
from rft_cli.commands.grading.json_lines import JsonLines
from rft_cli.commands.signals import signals_interrupt
from rft_cli.config.paths import named
from rft_cli.config.schema import RunConfig
from rft_cli.config.suggest import counted
from rft_cli.console import StatusLine, print_audit
from rft_cli.data.dataset import read_examples
from rft_cli.data.references import reference_of
from rft_cli.errors import GateNotMet, UsageError
from rft_cli.grading.audit.results import AuditReport
from rft_cli.grading.audit.rows import AuditRow, choose_rows
from rft_cli.grading.audit.run import audit, calls_for
from rft_cli.grading.shape import shape_of
from rft_cli.types import Example

ROWS = 20
"""Rows that are audited where no number is asked for."""
FEWEST = 3
LIMIT_S = 120.0
"""Seconds over which fewer rows are taken, where no number is asked for."""


def audit_grader(
    config: RunConfig,
    files: Sequence[str],
    *,
    rows: int | None = None,
    json: bool = False,
    quiet: bool = False,
    events: bool = False,
    summary_file: str | None = None,
) -> None:
    """Audit the grader on `rows` rows (None: 20, fewer if it is slow) of `files` and the config's data files.

    Prints the table, or the JSON document; raises GateNotMet where there is a problem.
    """
    data = config.data
    asked: list[tuple[str, str | None]] = [(file, None) for file in files]
    asked += [(file, "train") for file in named(data.train)]
    asked += [(file, "validation") for file in named(data.validation)]
    if not asked:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "there are no rows to audit the scorer on",
                "name a FILE of rows that have references, or -t and -v",
            )
        asked = [("-", None)]
    read = [path for path, _ in asked]
    examples = [example for name, role in asked for example in _read(name, role, config)]
    references = [reference_of(example, config.data.columns) for example in examples]
    chosen = choose_rows(examples, references, ROWS if rows is None else rows, config.seed)
    if not chosen:
        raise UsageError(
            f"{', '.join(read)}: no row has a reference, so nothing says what is right",
            "put it under output, answer, ground_truth or the like, or name its key: --set data.columns.output=KEY",
        )
    report = _audit(config, chosen, None if rows is not None else LIMIT_S, quiet, events)
    if summary_file is not None:
        terminal.write_json(summary_file, report.to_json())
    unmet = None
    if problems := report.of_level("problem"):
        faults = ", ".join(finding.name for finding in problems)
        unmet = GateNotMet(f"the audit found {counted(len(problems), 'problem')}: {faults}")
    with terminal.results():
        if json:
            terminal.print_json(report.to_json(), unmet)
        else:
            print_audit(report, _rows_of(report, chosen, len(examples), read, config.seed))
    if unmet is not None:
        raise unmet


def _read(path: str, role: str | None, config: RunConfig) -> Sequence[Example]:
    data = config.data
    found = read_examples(path, format=data.format, columns=data.columns, system=data.system, role=role)
    return found.examples


def _audit(
    config: RunConfig, rows: Sequence[AuditRow], limit_s: float | None, quiet: bool, events: bool
) -> AuditReport:
    from rft_cli.training.graders import open_grader

    line = StatusLine(quiet or events)
    lines = JsonLines() if events else None
    line.show(f"auditing with {calls_for(rows)} grades at most")

    def on_progress(done: int, total: int) -> None:
        if lines is not None:
            lines.progress(done, total)
        if line.due or done == total:
            line.show(f"auditing: {done:,} of {total:,} grades")

    try:
        with (
            signals_interrupt(signal.SIGINT),
            open_grader(
                config.grader,
                log_path=None,
                seed=config.seed,
                rows=shape_of((row.example for row in rows), config.data.columns),
            ) as grader,
        ):
            line.wipe()
            for note in grader.notes:
                if lines is not None:
                    lines.note(f"scorer: {note}")
                else:
                    print(f"scorer: {note}", file=sys.stderr, flush=True)
            return audit(
                grader,
                rows,
                timeout_s=config.grader.grade_limit_s,
                signature=f"{grader.signature} of {config.grader.shown}",
                sha256=grader.sha256,
                limit_s=limit_s,
                at_least=FEWEST,
                on_progress=on_progress,
            )
    finally:
        line.wipe()


def _rows_of(
    report: AuditReport, chosen: Sequence[AuditRow], count: int, named: Sequence[str], seed: int
) -> str:
    what = f"{report.rows} of {count} rows of {', '.join(named)} (seed {seed})"
    if report.rows < len(chosen):
        what += f"; a slow scorer: --audit-rows {len(chosen)} takes more"
    return what
