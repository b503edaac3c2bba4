"""What was graded, and the figures that verdicts are made of: honest medians, noise, what beats what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from rft_cli.grading.audit.probes import EMPTY, HONEST, OTHER, REFERENCE, Probe
from rft_cli.grading.audit.report import MAX_SHOWN_CHARS, Shown
from rft_cli.grading.audit.rows import AuditRow
from rft_cli.types import Grade

_EXACT = 1e-9
"""Differences between rewards that only come from adding in another order."""


@dataclass(frozen=True, slots=True)
class Try:
    """One completion of one row, graded. `place` is the row's among the audited ones."""

    place: int
    completion: str
    grade: Grade


@dataclass(frozen=True, slots=True)
class Tries:
    """All that was graded. `by_probe`: probe name → row's place → try. `repeats`: the grades that one text got."""

    rows: Sequence[AuditRow]
    by_probe: Mapping[str, Mapping[int, Try]]
    repeats: Sequence[tuple[Grade, ...]]

    def of(self, probe: Probe) -> list[Try]:
        """This probe's tries, in the order of the rows."""
        return list(self.by_probe.get(probe.name, {}).values())

    def reward(self, probe: Probe, place: int) -> float | None:
        """What the row's completion of this kind got; None where there is none or it has no reward."""
        found = self.by_probe.get(probe.name, {}).get(place)
        return None if found is None else found.grade.reward

    def mean(self, probe: Probe) -> float | None:
        """Mean reward of this probe's graded completions."""
        rewards = [tried.grade.reward for tried in self.of(probe) if tried.grade.reward is not None]
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
        """Rewards that differ by no more than this are not told apart: noise must not look like a verdict."""
        return self.noise + _EXACT

    def gold_fails(self, place: int) -> bool:
        """Whether the row's reference is not graded, or gets no more than wrong completions: the mean of what another
        row's reference and an empty text get.

        A reference that was skipped does not fail: the scorer says that it can't grade this row.
        """
        tried = self.by_probe[REFERENCE.name][place]
        if tried.grade.reward is None:
            return tried.grade.status == "failed"
        rewards = (self.reward(probe, place) for probe in (OTHER, EMPTY))
        wrong = [reward for reward in rewards if reward is not None]
        return bool(wrong) and tried.grade.reward <= fmean(wrong) + _EXACT

    def beats_honest(self, place: int, reward: float) -> bool:
        """Whether this reward is over the median of the row's honest completions."""
        honest = self.honest(place)
        return bool(honest) and reward > median(honest) + self.margin

    def beats_median_honest(self, probe: Probe) -> bool:
        """Whether this probe's mean reward is over the median honest score of all rows."""
        mean, honest = self.mean(probe), self.median_honest
        return mean is not None and honest is not None and mean > honest + self.margin

    def as_good_as_gold(self, place: int, reward: float) -> bool:
        """Whether this reward is as high as the row's reference has."""
        gold = self.reward(REFERENCE, place)
        return gold is not None and reward >= gold - _EXACT

    def reaches_gold(self, place: int, reward: float) -> bool:
        """Whether this reward is as high as the row's reference has, where that passes."""
        return self.as_good_as_gold(place, reward) and not self.gold_fails(place)

    @property
    def follows_row(self) -> bool:
        """False if a text gets the same reward with another row as with its own: it is the text alone that counts.

        True also where all honest completions get the same: that is a mistake, not a matter of taste.
        """
        pairs = []
        for place, row in enumerate(self.rows):
            if row.other_place is not None:
                here, home = self.reward(OTHER, place), self.reward(REFERENCE, row.other_place)
                if here is not None and home is not None:
                    pairs.append((here, home))
        honest = self.honest()
        constant = not honest or max(honest) - min(honest) <= self.margin
        return constant or len(pairs) < 2 or any(abs(here - home) > self.margin for here, home in pairs)

    def all_tries(self) -> Iterator[Try]:
        """Every try, repeated calls left out."""
        for tries in self.by_probe.values():
            yield from tries.values()

    def show(self, tried: Try) -> Shown:
        """The try as an example for people."""
        error = tried.grade.error
        reason = tried.grade.status if error is None else f"{error.kind}: {error.message}"
        source = self.rows[tried.place].example.source
        reward = tried.grade.reward
        return Shown(
            source, tried.completion[:MAX_SHOWN_CHARS], reward, None if reward is not None else reason
        )
