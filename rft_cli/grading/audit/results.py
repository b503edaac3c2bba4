"""The graded probes, the figures that findings are made of, and the report of an audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any, Literal

from rft_cli.grading.audit.probes import HONEST, OTHER, REFERENCE, Group, Probe, empty
from rft_cli.grading.audit.rows import AuditRow
from rft_cli.types import Grade

SCHEMA = "rft.audit/1"

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One completion that a finding is about: its row's file and line, the beginning of its text, and its reward.

    `error` says why there is no reward, where there is none.
    """

    row: str
    completion: str
    reward: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the audit.

    `reward` is the mean over the graded completions of this kind, None where there are none or the line is not about
    one kind. `hits` of `rows` rows are what `text` speaks of. `fix` is set for warnings and problems.
    """

    group: Group
    name: str
    level: Level
    text: str
    reward: float | None = None
    hits: int = 0
    rows: int = 0
    example: Evidence | None = None
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The findings, in the order they are shown.

    `median_honest` is over all honest completions, None where none was graded. `noise` is the largest difference
    between calls with one text.
    """

    signature: str
    sha256: str
    rows: int
    calls: int
    median_honest: float | None
    noise: float
    findings: tuple[Finding, ...]

    def of_level(self, level: Level) -> list[Finding]:
        """The findings of this level."""
        return [finding for finding in self.findings if finding.level == level]

    @property
    def passed(self) -> bool:
        """Whether there is no problem."""
        return not self.of_level("problem")

    def to_json(self) -> dict[str, Any]:
        """The document that `rft grade --audit --json` prints."""
        return {
            "schema": SCHEMA,
            "status": "ok" if self.passed else "problems",
            "grader": {"signature": self.signature, "sha256": self.sha256},
            "rows": self.rows,
            "calls": self.calls,
            "median_honest": self.median_honest,
            "noise": self.noise,
            "problems": len(self.of_level("problem")),
            "warnings": len(self.of_level("warning")),
            "findings": [asdict(finding) for finding in self.findings],
        }


_SHOWN_CHARS = 500
_EXACT = 1e-9
"""Differences between rewards that only come from adding in another order."""


@dataclass(frozen=True, slots=True)
class Result:
    """One completion of one row, graded. `place` is the row's among the audited ones."""

    place: int
    completion: str
    grade: Grade


@dataclass(frozen=True, slots=True)
class Results:
    """All results. `by_probe`: probe name → row's place → result. `repeats`: the grades that one text got."""

    rows: Sequence[AuditRow]
    by_probe: Mapping[str, Mapping[int, Result]]
    repeats: Sequence[tuple[Grade, ...]]

    def of(self, probe: Probe) -> list[Result]:
        """This probe's results, in the order of the rows."""
        return list(self.by_probe.get(probe.name, {}).values())

    def reward(self, probe: Probe, place: int) -> float | None:
        """The reward of the row's completion of this kind; None where there is no completion or no reward."""
        found = self.by_probe.get(probe.name, {}).get(place)
        return None if found is None else found.grade.reward

    def mean(self, probe: Probe) -> float | None:
        """Mean reward of this probe's graded completions."""
        rewards = [result.grade.reward for result in self.of(probe) if result.grade.reward is not None]
        return fmean(rewards) if rewards else None

    def honest(self, place: int | None = None) -> list[float]:
        """Rewards of honest completions, of one row or of all."""
        places = range(len(self.rows)) if place is None else (place,)
        found = (self.reward(probe, p) for p in places for probe in HONEST)
        return [reward for reward in found if reward is not None]

    @property
    def median_honest(self) -> float | None:
        """The median honest score of all rows."""
        rewards = self.honest()
        return median(rewards) if rewards else None

    @property
    def noise(self) -> float:
        """The largest difference between the rewards that one text got."""
        found = [[grade.reward for grade in grades if grade.reward is not None] for grades in self.repeats]
        return max((max(rewards) - min(rewards) for rewards in found if rewards), default=0.0)

    @property
    def margin(self) -> float:
        """Rewards that differ by no more than this count as equal: noise must not look like a finding."""
        return self.noise + _EXACT

    def gold_fails(self, place: int) -> bool:
        """Whether the row's reference fails, or gets no more than the mean of another's reference and an empty text.

        A skipped reference does not fail: the scorer says that it can't grade this row.
        """
        grade = self.by_probe[REFERENCE.name][place].grade
        if grade.reward is None:
            return grade.status == "failed"
        rewards = (self.reward(probe, place) for probe in (OTHER, empty))
        wrong = [reward for reward in rewards if reward is not None]
        return bool(wrong) and grade.reward <= fmean(wrong) + _EXACT

    def beats_honest(self, result: Result) -> bool:
        """Whether the reward is over the median of the row's honest completions."""
        honest, reward = self.honest(result.place), result.grade.reward
        return reward is not None and bool(honest) and reward > median(honest) + self.margin

    def beats_median_honest(self, probe: Probe) -> bool:
        """Whether this probe's mean reward is over the median honest score of all rows."""
        mean, honest = self.mean(probe), self.median_honest
        return mean is not None and honest is not None and mean > honest + self.margin

    def reaches_gold(self, result: Result) -> bool:
        """Whether the reward is as high as that of the row's reference."""
        gold, reward = self.reward(REFERENCE, result.place), result.grade.reward
        return gold is not None and reward is not None and reward >= gold - _EXACT

    @property
    def follows_row(self) -> bool:
        """False if each text gets the same reward on another row as on its own: the text alone counts.

        True also where all honest completions get the same reward: that is a mistake, not a choice.
        """
        own = {row.reference: self.reward(REFERENCE, place) for place, row in enumerate(self.rows)}
        pairs = [
            (here, home)
            for place, row in enumerate(self.rows)
            if (home := own.get(row.other or "")) is not None
            and (here := self.reward(OTHER, place)) is not None
        ]
        honest = self.honest()
        constant = not honest or max(honest) - min(honest) <= self.margin
        return constant or len(pairs) < 2 or any(abs(here - home) > self.margin for here, home in pairs)

    def seconds(self) -> list[float]:
        """How long each grade took, shortest first; repeated calls are left out."""
        return sorted(result.grade.seconds for found in self.by_probe.values() for result in found.values())

    def evidence(self, result: Result) -> Evidence:
        """The result as an example for people."""
        grade, error = result.grade, result.grade.error
        reason = grade.status if error is None else f"{error.kind}: {error.message}"
        row = str(self.rows[result.place].example.source)
        text = result.completion[:_SHOWN_CHARS]
        return Evidence(row, text, grade.reward, None if grade.reward is not None else reason)
