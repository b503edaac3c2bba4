"""Results for people, on stdout: a job's final table, the checklist and estimates of `rft validate`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rft_cli.console.text import clean, interval, number, one_line
from rft_cli.report.summary import CompletionPair, Summary, SummaryRow
from rft_cli.types import Estimate

WIDEST_LABEL = 60
"""Characters of a component's name in a table."""
LEGEND = "Means over rows, 95 % bootstrap intervals; the difference is paired by row."


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a checklist. `ok` None says that there was nothing to check; `look` that it is right but odd."""

    name: str
    ok: bool | None
    detail: str
    look: bool = False


def print_summary(summary: Summary, file: TextIO | None = None) -> None:
    """A job's result: headline, table, notes, completions before and after, the run, what next."""
    console = open_console(file)
    console.print()
    console.print(Text(clean(summary.headline), style="bold"))
    console.print()
    console.print(comparison_table(summary.split, summary.table))
    console.print(Text(LEGEND, style="dim"))
    console.print()
    for note in summary.notes:
        console.print(Text(clean(note)))
    for title, lines in (("Warnings", summary.warnings), ("Diagnosis", summary.diagnosis)):
        if lines:
            console.print()
            console.print(Text(title, style="bold yellow"))
            for line in lines:
                console.print(Text(f"- {clean(line)}"))
    if summary.completions:
        _print_completions(console, summary.completions, summary.split)
    console.print()
    # No wrapping: what is made to be copied stays on one line.
    console.print(Text(f"run   {clean(summary.run)}"), soft_wrap=True)
    console.print(Text(f"next  {clean(summary.next)}"), soft_wrap=True)


def comparison_table(
    split: str, rows: Iterable[SummaryRow], sides: tuple[str, str] = ("before", "after")
) -> Table:
    """Before, after and paired difference, each a mean with its 95 % interval. `sides` names the first two."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(f"{split} rows", overflow="fold")
    for name in (*sides, "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = (interval(row.before), interval(row.after), interval(row.difference, sign=True))
        table.add_row(Text(one_line(row.label, WIDEST_LABEL)), *map(Text, cells))
    return table


def print_estimates(title: str, rows: Mapping[str, Estimate], file: TextIO | None = None) -> None:
    """Means of one model with their 95 % intervals."""
    console = open_console(file)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(Text(clean(title)), overflow="fold")
    table.add_column("mean [95 %]", justify="right", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    for name, estimate in rows.items():
        table.add_row(Text(clean(name)), Text(interval(estimate)), str(estimate.n))
    console.print(table)


def print_comparison(
    title: str,
    rows: Iterable[SummaryRow],
    file: TextIO | None = None,
    notes: Iterable[str] = (),
    sides: tuple[str, str] = ("before", "after"),
) -> None:
    """The comparison table under a title, and what it says."""
    console = open_console(file)
    console.print(Text(clean(title), style="bold"))
    console.print(comparison_table("validation", rows, sides))
    console.print(Text(LEGEND, style="dim"))
    for note in notes:
        console.print(Text(clean(note)))


def print_files(label: str, paths: Iterable[str], file: TextIO | None = None) -> None:
    """A line for each file, whole: it is made to be copied."""
    console = open_console(file)
    for path in paths:
        console.print(Text(f"{label}  {clean(path)}"), soft_wrap=True)


def print_checks(checks: Iterable[Check], file: TextIO | None = None) -> None:
    """A checklist, one line a check."""
    console = open_console(file)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        sign, style = _sign(check)
        table.add_row(Text(sign, style=style), Text(check.name), Text(clean(check.detail)))
    console.print(table)


def _sign(check: Check) -> tuple[str, str]:
    """The first word of a check's line, and its style."""
    if check.ok is None:
        return "–", ""
    if check.look:
        return "warning", "yellow"
    return ("ok", "green") if check.ok else ("problem", "red")


def _print_completions(console: Console, shown: Iterable[CompletionPair], split: str) -> None:
    console.print()
    console.print(Text(f"Completions before and after, from the {split} rows", style="bold"))
    width = console.width - 10
    for item in shown:
        head = f"{item.verdict:<6}  {number(item.before_reward)} -> {number(item.after_reward)}   "
        prompt = one_line(item.prompt, console.width - len(head), keep_end=True)
        console.print(Text.assemble((head, "bold"), (prompt, "dim")), no_wrap=True, overflow="ellipsis")
        grid = Table.grid(padding=(0, 2, 0, 0))
        for label, completion in (("  before", item.before), ("  after", item.after)):
            grid.add_row(label, Text(one_line(completion, 2 * width)))
        console.print(grid)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would end the process with code 1, before a gate is reported.
        raise BrokenPipeError


def open_console(file: TextIO | None) -> Console:
    """Where results are drawn: `file`, or standard output."""
    return _Console(file=file or sys.stdout, markup=False, highlight=False, emoji=False)
