"""The intervals of many means at once: `report.estimates.mean_ci` for each column, in a fraction of its time."""

from __future__ import annotations

from collections.abc import Sequence

from rft_cli.report.estimates import RESAMPLES, mean_ci, resamples
from rft_cli.types import Estimate

_CHUNK = 250_000
"""Row indices drawn at a time: a few MB."""
_TOGETHER = 2
"""Columns of one length from which one matrix product is faster than a bootstrap for each."""


def mean_cis(columns: Sequence[Sequence[float]]) -> list[Estimate | None]:
    """Mean and 95 % bootstrap interval of each column of row values; None for an empty one.

    Columns of one length share their resamples. These are the ones that `mean_ci` draws for that length, so the
    figures equal those of a job's result, but for rounding.
    """
    by_length: dict[int, list[int]] = {}
    for place, column in enumerate(columns):
        by_length.setdefault(len(column), []).append(place)
    found: list[Estimate | None] = [None] * len(columns)
    for length, places in by_length.items():
        if length == 0:
            continue
        if length == 1 or len(places) < _TOGETHER:
            for place in places:
                found[place] = mean_ci(columns[place])
            continue
        for place, estimate in zip(places, _of_one_length([columns[p] for p in places]), strict=True):
            found[place] = estimate
    return found


def _of_one_length(columns: Sequence[Sequence[float]]) -> list[Estimate]:
    import numpy as np

    values = np.asarray(columns, dtype=np.float64).T  # (rows, columns)
    rows = len(values)
    means = np.empty((RESAMPLES, values.shape[1]))
    for part, drawn in resamples(rows, _CHUNK):
        count = len(drawn)
        flat = drawn + rows * np.arange(count)[:, None]
        times = np.bincount(flat.ravel(), minlength=count * rows).reshape(count, rows)
        means[part] = times.astype(np.float64) @ values / rows
    lows, highs = np.percentile(means, [2.5, 97.5], axis=0)
    return [
        Estimate(mean=float(mean), ci95=(float(low), float(high)), n=rows)
        for mean, low, high in zip(values.mean(axis=0), lows, highs, strict=True)
    ]
