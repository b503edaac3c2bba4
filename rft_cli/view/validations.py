"""What the validations of a run measured, each file read once and none of its text kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rft_cli.types import MOST_COMPONENTS
from rft_cli.view.completions import Completion, completions_in, files_of
from rft_cli.view.curves import Point, Validations
from rft_cli.view.intervals import mean_cis
from rft_cli.view.reading import ReadProblems

_TENTHS = 10


def read_validations(run: Path, problems: ReadProblems) -> Validations:
    """Mean reward, components, length and share of cut completions after each validated step, with intervals."""
    found: dict[str, list[Point]] = {}
    columns: list[list[float]] = []
    names: list[tuple[str, int]] = []
    for sampled in files_of(run, "validation", 0):
        rows: dict[str, dict[int, list[float]]] = {}
        tokens: list[int] = []
        cut = 0
        for completion in completions_in(sampled, problems):
            tokens.append(completion.tokens)
            cut += completion.truncated
            for name, value in _measured(completion).items():
                rows.setdefault(name, {}).setdefault(completion.row, []).append(value)
        if tokens:
            found.setdefault("completion_tokens", []).append(Point(sampled.step, sum(tokens) / len(tokens)))
            found.setdefault("truncated", []).append(Point(sampled.step, cut / len(tokens)))
        for name, by_row in list(rows.items())[: MOST_COMPONENTS + 2]:
            names.append((name, sampled.step))
            columns.append([math.fsum(values) / len(values) for values in by_row.values()])
    for (name, step), estimate in zip(names, mean_cis(columns), strict=True):
        if estimate is not None:
            low, high = estimate.ci95
            found.setdefault(name, []).append(Point(step, estimate.mean, low, high))
    return found


def _measured(completion: Completion) -> dict[str, float]:
    found = {"reward": completion.reward, "guard": completion.guard}
    components = {} if completion.reward is None else _components(completion.components)
    return {name: value for name, value in found.items() if value is not None} | components


def _components(components: object) -> dict[str, float]:
    return (
        {f"reward/{name}": value for name, value in components.items()}
        if isinstance(components, dict)
        else {}
    )


def distribution(rewards: Sequence[float], low: float, high: float, bins: int = _TENTHS) -> list[int]:
    """How many rewards lie in each of `bins` equal parts of the scale from `low` to `high`."""
    counts = [0] * bins
    for reward in rewards:
        share = (reward - low) / (high - low) if high > low else 0.0
        counts[min(bins - 1, max(0, int(share * bins)))] += 1
    return counts
