"""The table of `rft grade --audit`, and what each warning and problem in it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rft_cli.console.tables import open_console
from rft_cli.console.text import clean, number, one_line
from rft_cli.grading.audit.results import AuditReport, Finding, Level

_HEADS = {
    "reference": "honest completions",
    "wrong": "honest completions",
    "exploit": "exploits",
    "scorer": "the scorer",
}
_SHOWN: tuple[Level, ...] = ("problem", "warning")
_STYLES: dict[Level, str] = {"ok": "green", "warning": "yellow", "problem": "red"}


def print_audit(report: AuditReport, rows: str, file: TextIO | None = None) -> None:
    """The audit for people; `rows` says on which rows it was made."""
    console = open_console(file)
    console.print(Text(clean(f"Audit of {report.signature}"), style="bold"))
    console.print(Text(clean(f"{rows}, {report.calls:,} grades")))
    if report.median_honest is not None:
        console.print(Text(f"median honest score {number(report.median_honest)}"))
    console.print()
    console.print(_table(report.findings))
    printed: set[str] = set()
    for level in _SHOWN:
        for finding in report.of_level(level):
            _print_detail(console, finding, printed)
    counts = (f"{len(report.of_level(level))} {level}" for level in _SHOWN)
    console.print()
    console.print(
        Text(", ".join(text if text.startswith("1 ") else f"{text}s" for text in counts), style="bold")
    )


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("reward", justify="right", no_wrap=True)
    table.add_column("finding", overflow="fold")
    head = ""
    for finding in findings:
        if _HEADS[finding.group] != head:
            if head:
                table.add_row()
            head = _HEADS[finding.group]
            table.add_row("", Text(head, style="bold"))
        reward = "" if finding.group == "scorer" or finding.name == "order" else number(finding.reward)
        sign = Text(finding.level, style=_STYLES[finding.level])
        table.add_row(sign, Text(finding.name), reward, Text(clean(finding.text)))
    return table


def _print_detail(console: Console, finding: Finding, printed: set[str]) -> None:
    """An example on one line, and what to do, unless it was `printed` before."""
    console.print()
    console.print(
        Text.assemble((finding.level, _STYLES[finding.level]), f"  {finding.name}: {clean(finding.text)}")
    )
    if finding.example is not None:
        shown = finding.example
        verb = "skips" if shown.error == "skipped" else "fails on"
        if shown.reward is not None:
            verb = f"gives {shown.reward:.4g} to"
        head = f"{clean(shown.row)} {verb}: "
        room = console.width - 2 - len(head)
        text = head + one_line(shown.completion, room if room >= 24 else console.width)
        console.print(Padding(Text(text), (0, 0, 0, 2)))
        if shown.error not in (None, "skipped"):
            console.print(Padding(Text(clean(shown.error or "")), (0, 0, 0, 2)))
    if finding.fix is not None and finding.fix not in printed:
        printed.add(finding.fix)
        console.print(Padding(Text(f"→ {finding.fix}", style="dim"), (0, 0, 0, 2)))
