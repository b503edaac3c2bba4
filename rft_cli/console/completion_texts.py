"""Completions as text on standard output: changes of rows, one row through the steps, the ones without a grade."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rft_cli.console.tables import open_console
from rft_cli.console.text import clean, number, one_line
from rft_cli.view.completions import Change, Completion, Ungraded

MOST_SHOWN = 1200
"""Characters of a completion on a terminal; `--json` has all of them."""


def print_changes(title: str, found: Sequence[Change], file: TextIO | None = None) -> None:
    """Rows before and after, the end of the prompt and both completions."""
    console = open_console(file)
    console.print(Text(title if found else f"{title}: none", style="bold"))
    for change in found:
        rewards = f"{number(change.before_reward)} -> {number(change.after_reward)}"
        head = f"{one_line(change.after.id, 60)}  {rewards}"
        console.print()
        _print_head(console, head, change.after.prompt)
        _print_texts(console, [("before", change.before.text), ("after", change.after.text)])
        components = _components(change.after)
        if components:
            console.print(Text(f"  {components}", style="dim"))


def print_row(found: Sequence[Completion], file: TextIO | None = None) -> None:
    """One row: its prompt, then its completions, oldest first; equal ones of a step are counted."""
    console = open_console(file)
    first = found[0]
    _print_line(console, f"{one_line(first.id, 200)}, {first.split} row")
    console.print(_indented(first.prompt, "dim"))
    for step, texts in _by_step(found):
        for completion, count in texts:
            times = f"  ×{count}" if count > 1 else ""
            console.print()
            grade = number(completion.reward) if completion.reward is not None else completion.status
            cut = ", cut at the length limit" if completion.truncated else ""
            head = f"step {step}  {grade}{times}   {completion.tokens} tokens{cut}  {_components(completion)}"
            _print_line(console, head.rstrip())
            console.print(_indented(completion.text))
            if completion.error:
                console.print(_indented(completion.error, "red"))


def print_ungraded(found: Ungraded, file: TextIO | None = None) -> None:
    """How many completions have no grade, why, and the first of them."""
    console = open_console(file)
    failed, skipped = found.counts["failed"], found.counts["skipped"]
    console.print(Text(f"Completions without a grade: {failed} failed, {skipped} skipped", style="bold"))
    for reason, count in found.reasons:
        _print_line(console, f"{count} × {one_line(reason, 400)}", "")
    for completion in found.completions:
        console.print()
        why = completion.error or completion.status
        head = (
            f"{completion.split}, step {completion.step}, {one_line(completion.id, 60)}: {one_line(why, 400)}"
        )
        _print_head(console, head, completion.prompt)
        _print_texts(console, [("completion", completion.text)])


def _print_head(console: Console, head: str, prompt: str) -> None:
    head = head[: max(20, console.width - 20)] + "   "
    rest = one_line(prompt, max(10, console.width - len(head)), keep_end=True)
    console.print(Text.assemble((head, "bold"), (rest, "dim")), no_wrap=True, overflow="ellipsis")


def _print_texts(console: Console, texts: Sequence[tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for label, text in texts:
        grid.add_row(f"  {label}", Text(one_line(text, 4 * max(20, console.width - 12))))
    console.print(grid)


def _print_line(console: Console, text: str, style: str = "bold") -> None:
    """One line, cut where the terminal ends: a wrapped one could begin with words of a run."""
    console.print(Text(text, style=style), no_wrap=True, overflow="ellipsis")


def _indented(text: str, style: str = "") -> Padding:
    """The text, cut, and set in so that no line of it looks like one of ours."""
    return Padding(Text(_cut(text), style=style), (0, 0, 0, 2))


def _cut(text: str) -> str:
    left = len(text) - MOST_SHOWN
    return clean(text) if left <= 0 else f"{clean(text[:MOST_SHOWN])} … ({left:,} more characters)"


def _components(completion: Completion) -> str:
    named = "  ".join(f"{name} {number(value)}" for name, value in completion.components.items())
    return one_line(named, 200) if named else ""


def _by_step(found: Sequence[Completion]) -> Iterator[tuple[int, list[tuple[Completion, int]]]]:
    """The different completions of each step, and how often each came."""
    for step, group in groupby(found, key=lambda completion: completion.step):
        counts: dict[tuple[str, float | None, str], tuple[Completion, int]] = {}
        for completion in group:
            key = (completion.text, completion.reward, completion.status)
            counts[key] = (completion, counts[key][1] + 1 if key in counts else 1)
        yield step, list(counts.values())
