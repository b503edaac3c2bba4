"""A run's completions under two graders: its own grades against new ones, step by step and row by row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft_cli.types import Estimate, Grade
from rft_cli.view.completions import Completion, Split
from rft_cli.view.intervals import mean_cis

SHOWN = 5
"""Rows that are listed on each side."""
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class Regraded:
    """One completion with its new grade; `completion` has the old one."""

    completion: Completion
    grade: Grade

    @property
    def old(self) -> float | None:
        return self.completion.reward

    @property
    def new(self) -> float | None:
        return self.grade.reward if self.grade.status == "graded" else None

    @property
    def change(self) -> float | None:
        """The new reward less the old one; None where one of them is missing."""
        return None if self.old is None or self.new is None else self.new - self.old

    def to_json(self) -> dict[str, Any]:
        c = self.completion
        return {
            "row": c.row,
            "id": c.id,
            "prompt": c.prompt,
            "completion": c.text,
            "old": self.old,
            "new": self.new,
            "change": self.change,
        }


@dataclass(frozen=True, slots=True)
class StepScores:
    """A step's completions under both graders, over the rows that both could grade; None where there are none.

    `difference` is the new reward less the old one, `old_gain` and `new_gain` the step's reward less the base's under
    each grader; all are paired by row. `statuses` are those of the new grades.
    """

    split: Split
    step: int
    old: Estimate | None
    new: Estimate | None
    difference: Estimate | None
    old_gain: Estimate | None
    new_gain: Estimate | None
    statuses: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        found = {
            "old": self.old, "new": self.new, "difference": self.difference, "old_gain": self.old_gain,
            "new_gain": self.new_gain,
        }  # fmt: skip
        estimates = {name: None if value is None else value.to_json() for name, value in found.items()}
        return {"split": self.split, "step": self.step, **estimates, "grades": dict(self.statuses)}


@dataclass(frozen=True, slots=True)
class Ranking:
    """The validated steps under each grader, highest mean first; of equal ones the earlier, as a job chooses."""

    old: Sequence[int]
    new: Sequence[int]

    @property
    def changes(self) -> bool:
        """Whether another checkpoint would be the best one."""
        return self.old[:1] != self.new[:1]

    def to_json(self) -> dict[str, Any]:
        best_old, best_new = (next(iter(side), None) for side in (self.old, self.new))
        return {
            "old": list(self.old),
            "new": list(self.new),
            "best": {"old": best_old, "new": best_new, "changes": self.changes},
        }


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one step: how many got more, the same and less; `higher` and `lower` list the largest changes.

    `reversed`: rows that beat the base under the old grader and do worse than it under the new one.
    """

    split: Split
    step: int
    counts: Mapping[str, int]
    higher: Sequence[Regraded]
    lower: Sequence[Regraded]
    reversed: int

    def to_json(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "step": self.step,
            **self.counts,
            "reversed": self.reversed,
            "highest": [found.to_json() for found in self.higher],
            "lowest": [found.to_json() for found in self.lower],
        }


ByStep = Mapping[tuple[Split, int], Sequence[Regraded]]
"""The completions of each split and step."""


def step_scores(graded: ByStep) -> list[StepScores]:
    """The scores of each step, in order."""
    return [
        _scores(split, step, found, graded.get((split, 0), ())) for (split, step), found in graded.items()
    ]


def _scores(split: Split, step: int, found: Sequence[Regraded], base: Sequence[Regraded]) -> StepScores:
    old, new = _both(found)
    first_old, first_new = _both(base)
    both = [row for row in old if row in first_old]
    # Training rows differ from batch to batch.
    both = [] if step == 0 or split == "training" else both
    columns = [
        list(old.values()),
        list(new.values()),
        [new[row] - old[row] for row in old],
        [old[row] - first_old[row] for row in both],
        [new[row] - first_new[row] for row in both],
    ]
    statuses = Counter(one.grade.status for one in found)
    counts = {name: statuses[name] for name in ("graded", "skipped", "failed")}
    first, second, *paired = mean_cis(columns)
    return StepScores(split, step, first, second, paired[0], paired[1], paired[2], counts)


def _both(found: Iterable[Regraded]) -> tuple[dict[int, float], dict[int, float]]:
    """Row → mean reward under the old and under the new grader, over the completions that both graded."""
    rows: dict[int, list[tuple[float, float]]] = {}
    for one in found:
        if one.old is not None and one.new is not None:
            rows.setdefault(one.completion.row, []).append((one.old, one.new))
    old = {row: math.fsum(pair[0] for pair in pairs) / len(pairs) for row, pairs in rows.items()}
    new = {row: math.fsum(pair[1] for pair in pairs) / len(pairs) for row, pairs in rows.items()}
    return old, new


def ranking(scores: Sequence[StepScores]) -> Ranking:
    """The validated steps in the order of both graders."""
    steps = [one for one in scores if one.split == "validation" and one.old and one.new]
    old = sorted(steps, key=lambda one: (-one.old.mean if one.old else 0.0, one.step))
    new = sorted(steps, key=lambda one: (-one.new.mean if one.new else 0.0, one.step))
    return Ranking([one.step for one in old], [one.step for one in new])


def changed_rows(graded: ByStep, split: Split, step: int) -> Rows:
    """The rows of this step by how their reward changed."""
    found = [one for one in graded.get((split, step), ()) if one.change is not None]
    ordered = sorted(found, key=lambda one: one.change or 0.0)
    up = [one for one in reversed(ordered) if (one.change or 0.0) > _EQUAL]
    down = [one for one in ordered if (one.change or 0.0) < -_EQUAL]
    counts = {"higher": len(up), "same": len(found) - len(up) - len(down), "lower": len(down)}
    old, new = _both(found)
    first_old, first_new = _both(graded.get((split, 0), ()))
    reversed_ = sum(
        old[row] > first_old[row] + _EQUAL and new[row] < first_new[row] - _EQUAL
        for row in old
        if row in first_old
    )
    return Rows(split, step, counts, up[:SHOWN], down[:SHOWN], reversed_)
