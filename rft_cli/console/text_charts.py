"""Curves as text: a chart with a scale for the reward, one line with its scale for every other figure."""

from __future__ import annotations

from collections.abc import Sequence

from rft_cli.console.text import number, sparkline
from rft_cli.view.curves import Chart, Curve

MARKS = {"validation": "o", "training": "·"}
"""What draws a curve: readable without colour."""
SHORT = {
    "kl_per_token": ("KL to the reference", "KL"),
    "truncated": ("Cut at the length limit", "Cut at the limit"),
    "constant_groups": ("Groups with one reward", "One-reward groups"),
    "explained_variance": ("Explained by the critic", "Critic explains"),
}
"""By the chart's name: a part of its title that is too long for a line of a terminal, and what stands there instead."""
HEIGHT = 9
LEAST_WIDTH = 20


def chart_lines(chart: Chart, width: int, height: int = HEIGHT) -> list[str]:
    """The chart as lines of at most `width` columns: scale on the left, steps below; later curves are drawn over."""
    curves = sorted(chart.curves, key=lambda curve: curve.source == "validation")
    values = [value for curve in curves for value in curve.values]
    steps = [step for curve in curves for step in curve.steps]
    if not values:
        return []
    low, high = min(values), max(values)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    first, last = min(steps), max(steps)
    labels = [number(high - (high - low) * row / (height - 1)) for row in range(height)]
    margin = max(map(len, labels))
    columns = max(LEAST_WIDTH, width - margin - 3)
    grid = [[" "] * columns for _ in range(height)]
    for curve in curves:
        for step, value in zip(curve.steps, curve.values, strict=True):
            column = _place(step, first, last, columns)
            row = height - 1 - _place(value, low, high, height)
            grid[row][column] = MARKS[curve.source]
    drawn = [
        f"{label if row % 2 == 0 else '':>{margin}} |{''.join(cells).rstrip()}"
        for row, (label, cells) in enumerate(zip(labels, grid, strict=True))
    ]
    ends = f"{first}{last:>{max(1, columns - len(str(first)))}}"
    legend = "  ".join(
        f"{MARKS[source]} {source}" for source in dict.fromkeys(c.source for c in chart.curves)
    )
    return [
        *drawn,
        f"{'':>{margin}} +{'-' * columns}",
        f"{'':>{margin}}  {ends}",
        f"{'':>{margin}}  step      {legend}",
    ]


def _place(value: float, low: float, high: float, cells: int) -> int:
    return 0 if high <= low else min(cells - 1, round((value - low) / (high - low) * (cells - 1)))


def curve_line(curve: Curve, width: int) -> str:
    """One curve on a line: its course, its scale, where it began and where it ended."""
    values = curve.values
    ends = f"   {number(values[0])} -> {number(values[-1])}" if len(values) > 1 else ""
    return f"{sparkline(values, max(8, width))}{ends}"


def lines_of(charts: Sequence[Chart]) -> list[tuple[str, Curve]]:
    """Label and curve of each line, in the order of the charts: of several curves of one figure training's."""
    found = []
    for chart in charts:
        if chart.stacked:
            found += [(f"{curve.label} ({chart.unit})", curve) for curve in chart.curves]
            continue
        curve = next((c for c in chart.curves if c.source == "training"), chart.curves[0])
        unit = f" ({chart.unit})" if chart.unit and chart.unit != "component" else ""
        title = chart.title.replace(*SHORT[chart.name]) if chart.name in SHORT else chart.title
        found.append((f"{title}{unit}", curve))
    return found
