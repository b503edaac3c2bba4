"""What a diagnosis looks at: the figures of a whole job, read from its run directory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeGuard

from rft_cli.errors import RunFailed
from rft_cli.report.estimates import compare
from rft_cli.runs import Run
from rft_cli.types import Estimate, Sample

SOLVED = 0.95
"""Share of the highest reward seen, from which a task counts as solved."""
BOUNDS = {"kl": 1.0, "truncated": 0.2, "completion_limit": 0.9, "completion_growth": 2.5}
"""The defaults of `tripwires`, for a run whose record lacks its settings."""

Metrics = Mapping[str, Any]
"""One line of metrics.jsonl."""


@dataclass(frozen=True, slots=True)
class Series:
    """A figure, once a rollout batch. `first` and `last` are means over a quarter of the job."""

    values: Sequence[float]

    @property
    def mean(self) -> float:
        return mean_of(self.values)

    @property
    def first(self) -> float:
        return mean_of(self.values[: max(1, len(self.values) // 4)])

    @property
    def last(self) -> float:
        return mean_of(self.values[-max(1, len(self.values) // 4) :])


@dataclass(frozen=True, slots=True)
class Facts:
    """`batches` holds the lines of metrics of each rollout batch; `settings` those of run.json, by their full keys.

    `limit` is the length limit of a completion in tokens. `gain` is the validation gain of the best checkpoint, `slip`
    the last validation less the best one, both paired by row. `top` is the highest reward that a validation saw,
    `after` the best checkpoint's mean reward.
    """

    batches: Sequence[Sequence[Metrics]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    algorithm: str = "ppo"
    limit: int | None = None
    best_step: int = 0
    last_step: int = 0
    gain: Estimate | None = None
    slip: Estimate | None = None
    top: float | None = None
    after: float | None = None

    @property
    def solved(self) -> bool:
        """Whether the tuned model earns nearly the highest reward that was seen."""
        return self.top is not None and self.top > 0 and (self.after or 0.0) >= SOLVED * self.top

    def bound(self, tripwire: str) -> float:
        """The job's bound of this tripwire, or the default where it has none."""
        found = self.settings.get(f"tripwires.{tripwire}")
        return float(found) if is_number(found) else BOUNDS[tripwire]

    def series(self, key: str, least: int = 1) -> Series | None:
        """The figure of each rollout batch that has it; None where fewer than `least` do."""
        values = [float(batch[0][key]) for batch in self.batches if is_number(batch[0].get(key))]
        return Series(values) if len(values) >= least else None

    @property
    def batch_size(self) -> float | None:
        """Mean number of completions in a rollout batch."""
        counts = self.series("completions")
        sizes = [] if counts is None else [b - a for a, b in pairwise([0.0, *counts.values]) if b > a]
        return mean_of(sizes) if sizes else None


def mean_of(values: Sequence[float]) -> float:
    """The mean, also of numbers whose sum no float can hold."""
    return math.fsum(value / len(values) for value in values)


def is_number(value: object) -> TypeGuard[float]:
    """Whether this JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def grade_wait(line: Metrics) -> float | None:
    """Seconds that training waited for a rollout batch's grades: of runs that always waited, all of grading."""
    found = line.get("grade_wait_seconds", line.get("grade_seconds"))
    return float(found) if is_number(found) else None


def batches_of(lines: Sequence[Metrics]) -> list[list[Metrics]]:
    """The lines of each rollout batch: those that share its count of completions. Under sft each line is its own."""
    batches: list[list[Metrics]] = []
    for line in lines:
        count = line.get("completions")
        if batches and count is not None and batches[-1][0].get("completions") == count:
            batches[-1].append(line)
        else:
            batches.append([line])
    return batches


def facts_of(run: Run, lines: Sequence[Metrics]) -> Facts:
    """The facts of this run, whose metrics.jsonl has these lines; without validations those of the lines alone."""
    info, steps = run.info, run.validated_steps()
    best_step = int(info.get("best_step") or 0)
    last_step = steps[-1] if steps else 0
    settings = info.get("settings") or {}
    base = run.read_samples("step-000000") if 0 in steps else []
    best = run.read_samples(f"step-{best_step:06d}") if best_step in steps else base
    last = run.read_samples(f"step-{last_step:06d}") if last_step > best_step > 0 else []
    after = [s.grade.reward for s in best if s.grade.reward is not None]
    before = [s.grade.reward for s in base if s.grade.reward is not None]
    return Facts(
        batches=batches_of(lines),
        settings=settings,
        algorithm=str(info.get("algorithm") or "ppo"),
        limit=_limit(run, settings),
        best_step=best_step,
        last_step=last_step,
        gain=_difference(base, best) if best_step else None,
        slip=_difference(best, last) if last else None,
        top=max([*before, *after], default=None),
        after=mean_of(after) if after else None,
    )


def _limit(run: Run, settings: Mapping[str, Any]) -> int | None:
    """The length limit of a completion: as set, or as the pilot found it."""
    wanted = settings.get("rollout.max_completion_tokens")
    if isinstance(wanted, int):
        return wanted
    pilot = run.read_pilot()
    return None if pilot is None else int(pilot["max_completion_tokens"])


def _difference(before: Sequence[Sample], after: Sequence[Sample]) -> Estimate | None:
    try:
        return compare(before, after).difference
    except RunFailed:  # no row has a grade on both sides
        return None
