"""A run's completions under two graders, as tables on standard output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rft_cli.config.suggest import counted
from rft_cli.console.tables import open_console
from rft_cli.console.text import clean, interval, number, one_line
from rft_cli.view.regraded import Ranking, Regraded, Rows, StepScores

_LISTED = 3
_LEGEND = (
    "Means over the rows that both graders graded, 95 % bootstrap intervals, paired by row. "
    "Gain: the step less the base."
)


class ShownRegrade(Protocol):
    """What `print_regraded` draws."""

    @property
    def old(self) -> Mapping[str, Any]: ...
    @property
    def new(self) -> Mapping[str, Any]: ...
    @property
    def steps(self) -> Sequence[StepScores]: ...
    @property
    def ranking(self) -> Ranking: ...
    @property
    def rows(self) -> Rows: ...
    @property
    def next(self) -> str | None: ...
    @property
    def why(self) -> str: ...
    @property
    def notes(self) -> Sequence[str]: ...


def print_regraded(found: ShownRegrade, file: TextIO | None = None) -> None:
    """Both graders' means by step, whether another checkpoint would be the best, the rows that changed most, next."""
    console = open_console(file)
    for label, grader in (("old", found.old), ("new", found.new)):
        digest = str(grader["sha256"] or "")[:12]
        named = f"{clean(str(grader['grader']))}{f'  (SHA-256 {digest}…)' if digest else ''}"
        console.print(Text(f"{label}  {named}"), soft_wrap=True)
    for note in found.notes:
        console.print(Text(f"note: {clean(note)}"))
    _print_steps(console, found.steps)
    console.print()
    console.print(Text(_order(found.ranking), style="bold"))
    _print_rows(console, found.rows)
    console.print()
    console.print(Text(clean(f"{found.why[0].upper()}{found.why[1:]}.")))
    if found.next is not None:
        console.print(Text(f"next  {clean(found.next)}"), soft_wrap=True)


def _print_steps(console: Console, steps: Sequence[StepScores]) -> None:
    for split in dict.fromkeys(step.split for step in steps):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column(f"{split} step", justify="right", no_wrap=True)
        wide = console.width >= 110 and split != "training"
        names = ["old", "new", "new less old", *(["old gain"] if wide else [])]
        names += [] if split == "training" else ["new gain" if wide else "gain by new"]
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        for step in (one for one in steps if one.split == split):
            cells = [_mean(step.old), _mean(step.new), _signed(step.difference)]
            cells += [_signed(step.old_gain)] if wide else []
            cells += [] if split == "training" else [_signed(step.new_gain)]
            table.add_row(str(step.step), *cells)
        console.print()
        console.print(table)
    console.print(Text(_LEGEND, style="dim"))


def _mean(found: Any) -> str:
    return "–" if found is None else number(found.mean)


def _signed(found: Any) -> str:
    return "" if found is None else interval(found, sign=True)


def _order(order: Ranking) -> str:
    if not order.new:
        return "No step has grades of both graders: the steps can't be ranked."
    old, new = order.old[0], order.new[0]
    if order.changes:
        return f"The best checkpoint would be another: {_named(new)} in place of {_named(old)}."
    if list(order.old) != list(order.new):
        return f"The best checkpoint stays {_named(old)}; the order of the other steps changes."
    return f"The order of the steps stays the same; the best checkpoint is {_named(old)}."


def _named(step: int) -> str:
    return f"step {step}" if step else "the base"


def _print_rows(console: Console, rows: Rows) -> None:
    counts = rows.counts
    said = f"{counts['higher']} get more, {counts['same']} the same, {counts['lower']} less"
    total = counted(sum(counts.values()), f"{rows.split} row")
    console.print()
    console.print(Text(f"{total} of {_named(rows.step)}: {said}", style="bold"))
    if rows.reversed:
        console.print(
            Text(f"{counted(rows.reversed, 'row')} gained under the old grader and lost under the new one.")
        )
    for found in (*rows.lower[:_LISTED], *rows.higher[:_LISTED]):
        _print_row(console, found)


def _print_row(console: Console, found: Regraded) -> None:
    head = f"{number(found.old)} -> {number(found.new)}   {clean(found.completion.id)}  "
    prompt = one_line(found.completion.prompt, max(10, console.width - len(head)), keep_end=True)
    console.print(Text.assemble((head, "bold"), (prompt, "dim")), no_wrap=True, overflow="ellipsis")
    console.print(Text(f"  {one_line(found.completion.text, 2 * console.width - 4)}"))
