"""Estimates as run.json has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rft_cli.types import Comparison, Estimate
from rft_cli.view.reading import figure


def estimate_of(found: object) -> Estimate | None:
    """The estimate that this JSON value is; None for anything else."""
    if not isinstance(found, Mapping) or not isinstance(found.get("ci95"), list) or len(found["ci95"]) != 2:
        return None
    mean, low, high = figure(found.get("mean")), *map(figure, found["ci95"])
    n = found.get("n")
    if mean is None or low is None or high is None or not isinstance(n, int):
        return None
    return Estimate(mean=mean, ci95=(low, high), n=n)


def comparison_of(found: Mapping[str, Any]) -> Comparison | None:
    """The comparison that this JSON value is; None for anything else."""
    parts = [estimate_of(found.get(name)) for name in ("before", "after", "difference")]
    before, after, difference = parts
    if before is None or after is None or difference is None:
        return None
    return Comparison(before, after, difference)
