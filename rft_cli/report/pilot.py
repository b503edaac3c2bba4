"""The pilot's figures, from the base model's graded completions of a few training prompts.

Pure functions over samples. A group is what one prompt's completions are; skipped and failed grades are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft_cli.report.estimates import count_statuses
from rft_cli.types import Sample

SCHEMA = "rft.pilot/1"
WITHOUT_PILOT = 512
"""Tokens that a completion may have where neither the configuration nor a pilot says."""
SHOWN = 3
BANDS = ("0", "to 25 %", "to 50 %", "to 75 %", "under 100 %", "100 %")
"""Bands of the solve rate: nothing solved, four in between, all solved."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Prompts with at least two graded completions: how many there are, and whose rewards all agree."""

    total: int
    constant: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What was seen. `lengths` are of the completions that ended by themselves, ascending, in tokens with EOS.

    `low` and `high` are the ends of the scale of rewards: 0 and 1 where all rewards lie there, else those seen.
    `solved` counts prompts by band of their mean reward on that scale; empty where every reward is the same.
    """

    prompts: int
    completions: int
    lengths: tuple[int, ...]
    statuses: Mapping[str, int]
    mean: float | None
    low: float
    high: float
    solved: tuple[int, ...]
    groups: Groups
    rewards: frozenset[float]

    @property
    def ended(self) -> int:
        """Completions that ended by themselves."""
        return len(self.lengths)

    @property
    def teaches(self) -> bool:
        """Whether some prompt has two completions with different rewards."""
        return self.groups.constant < self.groups.total

    def to_json(self) -> dict[str, Any]:
        return {
            "prompts": self.prompts,
            "completions": self.completions,
            "ended": self.ended,
            "lengths": {
                "median": percentile(self.lengths, 0.5) if self.lengths else None,
                "p95": percentile(self.lengths, 0.95) if self.lengths else None,
            },
            "grades": dict(self.statuses),
            "reward": {"mean": self.mean, "low": self.low, "high": self.high},
            "solved": dict(zip(BANDS, self.solved, strict=True)) if self.solved else {},
            "groups": {"total": self.groups.total, "constant": self.groups.constant},
        }


def percentile(ascending: Sequence[int], share: float) -> int:
    """The smallest value that at least this share of the values do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def groups_of(samples: Sequence[Sample]) -> Groups:
    """The groups of these samples: a row's completions are one."""
    return _groups(_by_row(samples).values())


def _by_row(samples: Sequence[Sample]) -> dict[int, list[float]]:
    by_row: dict[int, list[float]] = {}
    for sample in samples:
        found = by_row.setdefault(sample.row, [])
        if sample.grade.reward is not None:
            found.append(sample.grade.reward)
    return by_row


def _groups(rewards: Iterable[Sequence[float]]) -> Groups:
    groups = [row for row in rewards if len(row) > 1]
    return Groups(len(groups), sum(min(row) == max(row) for row in groups))


def figures(samples: Sequence[Sample]) -> Figures:
    """The figures of a pilot's samples."""
    by_row = _by_row(samples)
    rewards = [reward for row in by_row.values() for reward in row]
    low, high = (min(rewards), max(rewards)) if rewards else (0.0, 0.0)
    if low >= 0.0 and high <= 1.0:
        low, high = 0.0, 1.0
    return Figures(
        prompts=len(by_row),
        completions=len(samples),
        lengths=tuple(sorted(s.tokens for s in samples if not s.truncated)),
        statuses=count_statuses(samples),
        mean=_mean(rewards) if rewards else None,
        low=low,
        high=high,
        solved=_bands([_mean(row) for row in by_row.values() if row], low, high),
        groups=_groups(by_row.values()),
        rewards=frozenset(rewards),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(value / len(values) for value in values)


def _bands(means: Sequence[float], low: float, high: float) -> tuple[int, ...]:
    """How many prompts lie in each of `BANDS`."""
    if low == high:
        return ()
    counts = [0] * len(BANDS)
    for mean in means:
        rate = min(1.0, max(0.0, mean / (high - low) - low / (high - low)))
        # 1 - 1e-9: a mean of equal numbers may miss them by a rounding.
        counts[
            0
            if rate <= 1e-9
            else len(BANDS) - 1
            if rate >= 1 - 1e-9
            else min(len(BANDS) - 2, math.ceil(rate * 4))
        ] += 1
    return tuple(counts)


def shown(samples: Sequence[Sample]) -> list[Sample]:
    """Three completions to look at: the best reward, one in the middle and the worst, of different prompts if possible.

    Among equals those that ended by themselves come first.
    """
    ranked = sorted(
        samples,
        key=lambda s: (-(s.grade.reward if s.grade.reward is not None else -math.inf), s.truncated),
    )
    chosen: list[Sample] = []
    places = [0, len(ranked) // 2, len(ranked) - 1][: len(ranked)]
    for place in places:
        near = sorted(range(len(ranked)), key=lambda index: abs(index - place))
        alike = [ranked[i] for i in near if ranked[i].grade.reward == ranked[place].grade.reward]
        fresh = [s for s in alike if s.row not in {c.row for c in chosen}]
        chosen.append((fresh or alike)[0])
    return chosen


@dataclass(frozen=True, slots=True)
class Course:
    """How long a job is: completions of a rollout batch, steps on it, passes over it, batches, completions that are
    sampled in its validations, and batches that are graded while others train."""

    batch: int
    steps: int
    passes: int
    batches: int
    validated: int
    ahead: int = 0


FORWARDS_A_PASS = 3
"""A forward pass and the backward pass, which costs about two."""
FORWARDS_A_BATCH = 2
"""The policy's and the reference's log-probabilities of what was sampled."""


def times(
    rollout_s: float, grade_s: float, forward_s: float, course: Course | None
) -> dict[str, float | None]:
    """Likely seconds, from those of one completion: sampled and graded, graded alone, in one forward pass."""
    found: dict[str, float | None] = {"completion": rollout_s, "grade": grade_s}
    if course is None:
        return found
    update = course.batch * forward_s * (FORWARDS_A_BATCH + FORWARDS_A_PASS * course.passes)
    hidden = (
        min(course.batch * grade_s, course.batch * (rollout_s - grade_s) + update) if course.ahead else 0.0
    )
    batch = course.batch * rollout_s + update - hidden
    return found | {
        "rollout": course.batch * rollout_s,
        "update": update,
        "step": batch / course.steps,
        "job": course.batches * batch + course.validated * rollout_s,
    }
