"""Means with intervals, from graded samples: bootstrap over rows, paired where both sides have the row.

Rows are the unit: several completions of one row are averaged first, because they are not independent.
Skipped and failed grades are left out; they are never a 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rft_cli.errors import RunFailed
from rft_cli.types import MOST_COMPONENTS, Comparison, Estimate, Sample

REWARD = "reward"
RESAMPLES = 10_000
_SEED = 20_240_229
# row indices drawn at a time: 32 MB
_CHUNK = 4_000_000


def mean_ci(values: Sequence[float]) -> Estimate:
    """Mean of one value per row, with the 2.5 and 97.5 percentiles of 10,000 bootstrap means (fixed seed).

    One row, or rows that all have one value, give an interval of width 0. No rows is a ValueError.
    """
    import numpy as np

    if len(values) == 0:
        raise ValueError("the mean of no rows")
    rows = np.asarray(values, dtype=np.float64)
    n = len(rows)
    if n == 1 or bool((rows == rows[0]).all()):
        value = float(rows[0])
        return Estimate(mean=value, ci95=(value, value), n=n)
    means = np.empty(RESAMPLES)
    for part, drawn in resamples(n, _CHUNK):
        means[part] = rows[drawn].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(mean=float(rows.mean()), ci95=(float(low), float(high)), n=n)


def resamples(rows: int, most: int) -> Iterator[tuple[slice, Any]]:
    """The bootstrap's row indices `(count, rows)` and their places among the 10,000, about `most` indices at a time.

    They depend on the number of rows alone (fixed seed): pieces of any size have the same indices.
    """
    import numpy as np

    rng = np.random.default_rng(_SEED)
    chunk = max(1, most // rows)
    for start in range(0, RESAMPLES, chunk):
        count = min(chunk, RESAMPLES - start)
        yield slice(start, start + count), rng.integers(0, rows, size=(count, rows))


def row_means(samples: Iterable[Sample], key: str = REWARD) -> dict[int, float]:
    """Row -> mean reward, or component `key`, over its graded completions; rows without any are absent."""
    values: dict[int, list[float]] = {}
    for sample in samples:
        value = _value(sample, key)
        if value is not None:
            values.setdefault(sample.row, []).append(value)
    return {row: math.fsum(found) / len(found) for row, found in values.items()}


def _value(sample: Sample, key: str) -> float | None:
    if sample.grade.status != "graded":
        return None
    return sample.grade.reward if key == REWARD else sample.grade.components.get(key)


def estimate(samples: Sequence[Sample], key: str = REWARD) -> Estimate:
    """Mean over rows of reward or component; RunFailed if nothing could be graded."""
    means = row_means(samples, key)
    if not means:
        raise _nothing_graded(samples, key)
    return mean_ci(list(means.values()))


def compare(before: Sequence[Sample], after: Sequence[Sample], key: str = REWARD) -> Comparison:
    """The rows graded in both, before and after, with their paired difference; RunFailed without any."""
    first, second = row_means(before, key), row_means(after, key)
    rows = sorted(first.keys() & second.keys())
    if not rows:
        raise _nothing_graded(before if not first else after, key)
    return Comparison(
        before=mean_ci([first[row] for row in rows]),
        after=mean_ci([second[row] for row in rows]),
        difference=mean_ci([second[row] - first[row] for row in rows]),
    )


def compare_components(before: Sequence[Sample], after: Sequence[Sample]) -> dict[str, Comparison]:
    """A comparison for each component that both sides have on some row, in the grader's order."""
    found = {}
    for name in component_names([*before, *after]):
        if row_means(before, name).keys() & row_means(after, name).keys():
            found[name] = compare(before, after, name)
    return found


def component_names(samples: Iterable[Sample]) -> list[str]:
    """Names of the components, in the order in which the grader first gave them; the first 100."""
    names: dict[str, None] = {}
    for sample in samples:
        names.update(dict.fromkeys(sample.grade.components))
    return list(names)[:MOST_COMPONENTS]


def count_statuses(samples: Iterable[Sample]) -> dict[str, int]:
    """How many completions were graded, skipped and failed."""
    return tally(sample.grade.status for sample in samples)


def tally(statuses: Iterable[str]) -> dict[str, int]:
    """Counts by grade status, all three named."""
    counts = {"graded": 0, "skipped": 0, "failed": 0}
    for status in statuses:
        counts[status] += 1
    return counts


def _nothing_graded(samples: Sequence[Sample], key: str) -> RunFailed:
    counts = count_statuses(samples)
    error = next((s.grade.error.message for s in samples if s.grade.error is not None), None)
    what = "reward" if key == REWARD else f"component {key!r}"
    said = f"no completion has a {what}: {counts['skipped']} skipped, {counts['failed']} failed"
    return RunFailed(
        f"{said} of {len(samples)}" + (f"; the first error: {error}" if error else ""),
        "try the scorer on a few completions with `rft grade`",
    )
