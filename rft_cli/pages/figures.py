"""Figures of runs as the templates of report and dashboard draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rft_cli.report.summary import SummaryRow
from rft_cli.types import Estimate
from rft_cli.view.completions import Split
from rft_cli.view.curves import Chart
from rft_cli.view.overview import Overview
from rft_cli.view.validations import distribution

Rewards = Mapping[Split, tuple[Sequence[float], Sequence[float]]]
"""Split → mean reward of each row before and after."""


def result_rows(run: Overview) -> list[SummaryRow]:
    """The rows of the result's table: those that the job printed, else what is measured so far."""
    if run.summary is not None:
        return list(run.summary.table)
    return [SummaryRow(name, c.before, c.after, c.difference) for name, c in run.measured.items()]


def difference_scale(differences: Sequence[Estimate]) -> tuple[float, float]:
    """The lowest and the highest end of any interval, and 0: what the pictures of differences are scaled by."""
    ends = [end for found in differences for end in (*found.ci95, found.mean)]
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high > low else (-1.0, 1.0)


def histograms(rewards: Rewards) -> list[dict[str, Any]]:
    """Rows by reward, before and after, in ten parts of the scale; for each split that has any."""
    found = []
    for split, (before, after) in rewards.items():
        every = [*before, *after]
        if not every:
            continue
        low, high = min(every), max(every)
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        found.append(
            {
                "split": split,
                "before": distribution(before, low, high),
                "after": distribution(after, low, high),
                "low": low,
                "high": high,
            }
        )
    return found


def over_each_other(runs: Sequence[Overview], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """A chart for each figure that some run has, with the curves of all of them; `run` is the place of its run."""
    found: dict[str, dict[str, Any]] = {}
    for place, run in enumerate(runs):
        for chart in run.charts:
            if chart.stacked:  # the phases of several runs would not be told apart
                continue
            known = found.setdefault(chart.name, {**chart.to_json(), "curves": []})
            for curve in chart.curves:
                label = f"{names[place]} {curve.source}"
                known["curves"].append({**curve.to_json(), "label": label, "run": place})
    return list(found.values())


def drawn_charts(charts: Sequence[Chart | Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The charts as JSON values."""
    return [chart.to_json() if isinstance(chart, Chart) else chart for chart in charts]
