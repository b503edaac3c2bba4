"""The plan of a job's memory as a table."""

from __future__ import annotations

from typing import TextIO

from rich.table import Table
from rich.text import Text

from rft_cli.console.tables import open_console
from rft_cli.console.text import clean
from rft_cli.report.memory import MemoryPlan

_COLUMNS = ("weights", "optimizer", "gradients", "cache", "activations")


def print_memory_plan(plan: MemoryPlan, file: TextIO | None = None) -> None:
    """What each phase holds on one device, and whether that fits."""
    console = open_console(file)
    device = "GPU" if plan.device == "cuda" else "CPU"
    many = f"each of {plan.count} {device}s" if plan.count > 1 else f"one {device}"
    trained = "" if plan.trained == plan.parameters else f", {plan.trained / 1e6:,.1f} M of them trained"
    console.print(Text(f"Memory of {many} for {clean(plan.model)}", style="bold"))
    console.print(Text(f"{plan.parameters / 1e6:,.1f} M parameters{trained}"))
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("GB")
    for name in (*_COLUMNS, "total"):
        table.add_column(name, justify="right", no_wrap=True)
    for phase in plan.phases:
        cells = [f"{phase.parts[name] / 1e9:.2f}" if name in phase.parts else "" for name in _COLUMNS]
        table.add_row(phase.name, *cells, f"{phase.total / 1e9:.2f}")
    console.print(table)
    console.print()
    for key, value in plan.settings.items():
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        console.print(Text(f"{key}  {shown}", style="dim"))
    console.print()
    for note in plan.notes:
        console.print(Text(clean(note)))
    console.print(Text(clean(plan.verdict())))
