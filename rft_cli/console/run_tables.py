"""The list of runs, one run, and runs compared, as tables and text on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rft_cli.console.tables import LEGEND, comparison_table, open_console
from rft_cli.console.text import clean, duration, interval, number, one_line
from rft_cli.console.text_charts import chart_lines, curve_line, lines_of
from rft_cli.report.summary import SummaryRow
from rft_cli.view.comparing import Compared
from rft_cli.view.entries import Entry
from rft_cli.view.overview import Overview

WIDE = 104
"""Columns from which a list has room for intervals."""
WIDEST = 110
"""Columns that charts take at most."""
_STYLES = {"finished": "green", "running": "cyan", "failed": "red", "died": "red", "unreadable": "red"}
_DAY_S = 86_400


def print_runs(entries: Sequence[Entry], folder: str, file: TextIO | None = None) -> None:
    """A line for each run, newest first."""
    console = open_console(file)
    table = _table()
    table.add_column("run", overflow="fold", min_width=12)
    table.add_column("status", no_wrap=True)
    table.add_column("model", overflow="ellipsis", no_wrap=True)
    table.add_column("reward", no_wrap=True)
    table.add_column("difference", no_wrap=True)
    table.add_column("when", no_wrap=True, justify="right")
    readable = [entry for entry in entries if entry.problem is None]
    for entry in readable:
        reward = entry.reward
        table.add_row(
            Text(clean(entry.name)),
            Text.assemble(
                (one_line(entry.status, 20), _STYLES.get(entry.status, "yellow")),
                (f" ({entry.doubt})" if entry.doubt else "", "yellow"),
            ),
            Text(one_line(entry.model, 60)),
            "–" if reward is None else f"{number(reward.before.mean)} -> {number(reward.after.mean)}",
            "" if reward is None else _difference(entry, console.width),
            when(entry),
        )
    if readable:
        console.print(table)
        console.print(
            Text("Rewards are on the test rows where there are some, else on the validation rows.", "dim")
        )
    for entry in entries:
        if entry.problem is not None:
            console.print(Text(f"{clean(entry.name)}: {clean(entry.problem)}", style="red"))
    if not entries:
        console.print(Text(f"no runs in {clean(folder)}; make one with `rft create`"))


def _difference(entry: Entry, width: int) -> str:
    assert entry.reward is not None
    difference = entry.reward.difference
    return interval(difference, sign=True) if width >= WIDE else number(difference.mean, sign=True)


def when(entry: Entry) -> str:
    """How long ago a run was created, or its date."""
    age = entry.age_s
    if age is None:
        return ""
    if age < _DAY_S:
        return f"{duration(max(0.0, age))} ago" if age < 60 else f"{_rounded(age)} ago"
    return f"{datetime.fromisoformat(entry.created):%Y-%m-%d}"


def _rounded(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.0f} h"


def print_run(run: Overview, file: TextIO | None = None) -> None:
    """The result again, the curves with their scales, the diagnosis, warnings, and what comes next."""
    console = open_console(file)
    _print_head(console, run)
    _print_result(console, run)
    _print_curves(console, run)
    _print_list(console, "Diagnosis", [found.text for found in run.diagnosis] or [run.no_findings])
    _print_list(console, "Warnings", run.warnings, "bold yellow")
    _print_list(console, "Could not be read", run.problems, "bold red")
    console.print()
    path = clean(str(run.entry.path))
    console.print(Text(f"run   {path}"), soft_wrap=True)
    console.print(
        Text(f"look  rft show {path} --worst 5   (--gains N, --losses N, --failed, --row ID)"), soft_wrap=True
    )
    if run.next:
        console.print(Text(f"next  {clean(run.next)}"), soft_wrap=True)


def _print_head(console: Console, run: Overview) -> None:
    entry = run.entry
    took = "" if entry.seconds is None else f"{duration(entry.seconds)} of work"
    said = [one_line(text, 60) for text in (entry.status, entry.model, entry.algorithm) if text]
    facts = [*said, run.steps_made, took, when(entry)]
    head = Text.assemble((clean(entry.name), "bold"), "  ", " · ".join(fact for fact in facts if fact))
    console.print(head, no_wrap=True, overflow="ellipsis")
    error = run.info.get("error")
    if error:
        console.print(Padding(Text(clean(str(error)), style="red"), (0, 0, 0, 2)))


def _print_result(console: Console, run: Overview) -> None:
    console.print()
    console.print(Text(clean(run.headline), style="bold"))
    if run.measured or run.summary is not None:
        console.print()
    if run.summary is not None:
        console.print(comparison_table(run.summary.split, run.summary.table))
    elif run.measured:
        rows = [SummaryRow(name, c.before, c.after, c.difference) for name, c in run.measured.items()]
        console.print(comparison_table(run.split, rows))
    else:
        return
    console.print(Text(LEGEND, style="dim"))
    for note in () if run.summary is None else run.summary.notes:
        console.print(Text(clean(note)))


def _print_curves(console: Console, run: Overview) -> None:
    if not run.charts:
        return
    width = min(console.width, WIDEST)
    first, rest = run.charts[0], list(run.charts)
    if first.name == "reward":
        rest = rest[1:]
        console.print()
        console.print(Text("Reward by step", style="bold"))
        for line in chart_lines(first, width):
            console.print(Text(line), no_wrap=True, overflow="crop")
    lines = lines_of(rest)
    if not lines:
        return
    margin = min(max(len(label) for label, _ in lines), max(20, width // 3))
    console.print()
    console.print(Text("Curves: lowest … highest, then first -> last", style="bold"))
    for label, curve in lines:
        name = one_line(label, 100)
        shown = name if len(name) <= margin else f"{name[: margin - 1]}…"
        text = f"{shown:<{margin}}  {curve_line(curve, min(40, width - margin - 42))}"
        console.print(Text(text), no_wrap=True, overflow="crop")


def _print_list(console: Console, title: str, lines: Iterable[str], style: str = "bold") -> None:
    lines = list(lines)
    if not lines:
        return
    console.print()
    console.print(Text(title, style=style))
    for line in lines:
        grid = Table.grid()
        grid.add_row("- ", Text(clean(line)))
        console.print(grid)


def print_compared(found: Compared, file: TextIO | None = None) -> None:
    """A table of the runs, the paired differences from the first one, and the settings that differ."""
    console = open_console(file)
    for verdict in found.verdicts:
        console.print(Text(clean(verdict), style="bold"))
    console.print()
    _print_compared_runs(console, found)
    _print_differences(console, found)
    _print_settings(console, found)
    _print_list(console, "Notes", found.notes, "bold yellow")


def _print_compared_runs(console: Console, found: Compared) -> None:
    table = _table()
    table.add_column("run", overflow="fold", min_width=8)
    for name in ("status", "before", "after"):
        table.add_column(name, no_wrap=True)
    table.add_column("best step", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for run in found.runs:
        entry, reward = run.entry, run.measured.get("reward")
        table.add_row(
            Text(clean(entry.name)),
            Text.assemble(
                (one_line(entry.status, 20), _STYLES.get(entry.status, "yellow")),
                (f" ({entry.doubt})" if entry.doubt else "", "yellow"),
            ),
            "–" if reward is None else interval(reward.before),
            "–" if reward is None else interval(reward.after),
            str(entry.best_step),
            "" if entry.seconds is None else duration(entry.seconds),
        )
    console.print(table)


def _print_differences(console: Console, found: Compared) -> None:
    if not found.differences:
        return
    console.print()
    first = clean(found.runs[0].entry.name)
    console.print(Text(f"Difference from {first}, paired by {found.split} row, 95 % intervals", style="bold"))
    table = _table()
    table.add_column("run", overflow="fold", min_width=8)
    table.add_column("figure", overflow="fold")
    for name in (first, "this run", "difference"):
        table.add_column(Text(name, overflow="ellipsis"), justify="right", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    for row in found.differences:
        table.add_row(
            Text(clean(row.run)),
            Text(one_line(row.figure, 100)),
            number(row.first.mean),
            number(row.other.mean),
            interval(row.difference, sign=True),
            str(row.rows),
        )
    console.print(table)


def _print_settings(console: Console, found: Compared) -> None:
    if not found.settings:
        return
    console.print()
    console.print(Text("Settings that differ", style="bold"))
    head = ["setting", *(clean(run.entry.name) for run in found.runs)]
    rows = [[clean(key), *map(clean, values)] for key, values in found.setting_texts().items()]
    if sum(max(map(cell_len, column)) + 2 for column in zip(head, *rows, strict=True)) <= console.width:
        table = _table()
        for name in head:
            table.add_column(Text(name), no_wrap=True)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
        return
    # Names and paths that people copy are not broken over lines.
    width = max(map(cell_len, head[1:]))
    for key, *values in rows:
        console.print(Text(key), soft_wrap=True)
        for name, value in zip(head[1:], values, strict=True):
            console.print(Text(f"  {name}{' ' * (width - cell_len(name))}  {value}"), soft_wrap=True)


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
