"""The curves of a run: what metrics.jsonl and the validations say, by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from rft_cli.report.facts import batches_of, grade_wait
from rft_cli.view.reading import figure

MeasuredOn = Literal["training", "validation"]
MOST_POINTS = 600
"""Points of a curve that are kept: more can't be seen, and a page would grow with the job."""
MOST_COMPONENTS = 20
"""Components that get a chart of their own."""


@dataclass(frozen=True, slots=True)
class Curve:
    """`values` by `steps`; `low` and `high` are the ends of a 95 % interval, of validations only."""

    label: str
    source: MeasuredOn
    steps: Sequence[int]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()

    def to_json(self) -> dict[str, Any]:
        rounded = {"values": self.values, "low": self.low, "high": self.high}
        return {
            "label": self.label,
            "source": self.source,
            "steps": list(self.steps),
            **{name: [_short(value) for value in found] for name, found in rounded.items() if found},
        }


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves that share a scale. `bounds`: the ends of the scale where the figure has natural ones."""

    name: str
    title: str
    unit: str
    curves: Sequence[Curve]
    bounds: tuple[float, float] | None = None
    stacked: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "bounds": self.bounds,
            "stacked": self.stacked,
            "curves": [curve.to_json() for curve in self.curves],
        }


@dataclass(frozen=True, slots=True)
class Point:
    """What one validation measured: the mean, and the ends of its 95 % interval where there is one."""

    step: int
    mean: float
    low: float | None = None
    high: float | None = None


Validations = Mapping[str, Sequence[Point]]
"""`reward`, `reward/NAME` for each component, `completion_tokens`, `truncated`: a point for each validated step."""


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def charts(lines: Sequence[Mapping[str, Any]], validations: Validations, algorithm: str) -> list[Chart]:
    """Every chart that the run has figures for, the reward first."""
    batches = batches_of(lines)
    firsts = [batch[0] for batch in batches]
    kl = "k3" if algorithm == "grpo" else "k1"
    found = [
        _chart("reward", "Reward", "", firsts, validations),
        _chart("guard", "Guard", "", (), validations),
        *_components(firsts, validations),
        _chart("loss", "Loss", "nats/token", lines, validations) if algorithm == "sft" else None,
        _chart("kl_per_token", f"KL to the reference, {kl}", "nats/token", firsts, validations),
        _chart("entropy", "Entropy", "nats/token", lines, validations),
        _chart("completion_tokens", "Completion length", "tokens", firsts, validations),
        _chart("truncated", "Cut at the length limit", "share", firsts, validations, (0.0, 1.0)),
        _chart(
            "constant_groups",
            "Groups with one reward",
            "share",
            firsts,
            validations,
            (0.0, 1.0),
        ),
        _chart("explained_variance", "Explained by the critic", "share", firsts, validations),
        _phases(batches),
    ]
    return [chart for chart in found if chart is not None]


def _chart(
    key: str,
    title: str,
    unit: str,
    lines: Sequence[Mapping[str, Any]],
    validations: Validations,
    bounds: tuple[float, float] | None = None,
) -> Chart | None:
    curves = [*_training(key, lines), *_validation(key, validations)]
    if key == "explained_variance" and all(abs(value) < 1e-3 for curve in curves for value in curve.values):
        return None  # a job without a critic
    return Chart(key, title, unit, curves, bounds) if curves else None


def _training(key: str, lines: Sequence[Mapping[str, Any]]) -> Iterator[Curve]:
    points = [(_step(line), value) for line in lines if (value := figure(line.get(key))) is not None]
    if points:
        steps, values = thinned([s for s, _ in points], [v for _, v in points])
        yield Curve("training", "training", steps, values)


def _validation(key: str, validations: Validations) -> Iterator[Curve]:
    points = validations.get(key, ())
    if not points:
        return
    banded = [(p.low, p.high) for p in points if p.low is not None and p.high is not None]
    whole = len(banded) == len(points)
    yield Curve(
        "validation",
        "validation",
        [p.step for p in points],
        [p.mean for p in points],
        [low for low, _ in banded] if whole else (),
        [high for _, high in banded] if whole else (),
    )


def _components(firsts: Sequence[Mapping[str, Any]], validations: Validations) -> Iterator[Chart]:
    keys = dict.fromkeys(key for key in validations if key.startswith("reward/"))
    keys.update(dict.fromkeys(key for line in firsts[-1:] for key in line if key.startswith("reward/")))
    for key in list(keys)[:MOST_COMPONENTS]:
        chart = _chart(key, key.removeprefix("reward/"), "component", firsts, validations)
        if chart is not None:
            yield chart


def _phases(batches: Sequence[Sequence[Mapping[str, Any]]]) -> Chart | None:
    """Seconds of each rollout batch by phase: sampling (with scoring), waiting for grades, updates."""
    steps: list[int] = []
    phases: dict[str, list[float]] = {"sampling": [], "grading": [], "update": []}
    for batch in batches:
        rollout, grading = figure(batch[0].get("rollout_seconds")), grade_wait(batch[0]) or 0.0
        if rollout is None:
            continue
        steps.append(_step(batch[0]))
        phases["sampling"].append(max(0.0, rollout - grading))
        phases["grading"].append(grading)
        phases["update"].append(
            math.fsum(max(0.0, figure(line.get("update_seconds")) or 0.0) for line in batch)
        )
    if not steps:
        return None
    curves = [Curve(name, "training", *thinned(steps, values)) for name, values in phases.items()]
    return Chart("seconds", "Time of a rollout batch", "seconds", curves, stacked=True)


def _step(line: Mapping[str, Any]) -> int:
    step = line.get("step")
    return step if isinstance(step, int) else 0


def thinned(
    steps: Sequence[int], values: Sequence[float], most: int = MOST_POINTS
) -> tuple[list[int], list[float]]:
    """At most `most` points: the means of neighbours, at the last of their steps."""
    count = len(steps)
    if count <= most:
        return list(steps), list(values)
    edges = [round(index * count / most) for index in range(most + 1)]
    parts = [(start, end) for start, end in pairwise(edges) if end > start]
    return [steps[end - 1] for _, end in parts], [math.fsum(values[a:b]) / (b - a) for a, b in parts]
