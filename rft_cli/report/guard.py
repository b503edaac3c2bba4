"""The guard: what a second grader, never trained on, says of the same completions, and when it is an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rft_cli.errors import RunFailed
from rft_cli.report.estimates import compare, estimate
from rft_cli.types import Comparison, Estimate, Sample

NAME = "guard"


@dataclass(frozen=True, slots=True)
class GuardAlarm:
    """The reward rose and the guard fell, both paired by row against the base, their intervals beside 0."""

    reward: Estimate
    guard: Estimate

    @property
    def text(self) -> str:
        """What was measured, in one sentence."""
        return (
            f"the reward rose by {_shown(self.reward)} and the guard fell by {_shown(self.guard)} against the base: "
            "what the scorer pays for is not what the guard measures"
        )


def by_guard(samples: Sequence[Sample]) -> list[Sample]:
    """The samples that the guard graded, with its grades in place of the grader's."""
    return [replace(sample, grade=sample.guard) for sample in samples if sample.guard is not None]


def guard_estimate(samples: Sequence[Sample]) -> Estimate | None:
    """The guard's mean; None where it graded nothing."""
    try:
        return estimate(by_guard(samples))
    except RunFailed:
        return None


def compare_guard(before: Sequence[Sample], after: Sequence[Sample]) -> Comparison | None:
    """The guard's grades before and after; None where no row has both."""
    try:
        return compare(by_guard(before), by_guard(after))
    except RunFailed:
        return None


def alarm_of(base: Sequence[Sample], samples: Sequence[Sample]) -> GuardAlarm | None:
    """The alarm that these samples of a step are, None where there is none."""
    guard = compare_guard(base, samples)
    if guard is None or guard.difference.ci95[1] >= 0:
        return None
    reward = compare(base, samples).difference
    return GuardAlarm(reward, guard.difference) if reward.ci95[0] > 0 else None


def guard_json(before: Sequence[Sample], after: Sequence[Sample]) -> dict[str, Any] | None:
    """The guard's part of a result; None without a guard."""
    found = compare_guard(before, after)
    if found is None:
        return None
    alarm = alarm_of(before, after)
    return {**found.to_json(), "alarm": None if alarm is None else alarm.text}


def _shown(difference: Estimate) -> str:
    low, high = sorted(abs(end) for end in difference.ci95)
    return f"{abs(difference.mean):.3f} [{low:.3f}, {high:.3f}]"
