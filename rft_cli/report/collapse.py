"""Detects collapse: how many completions differ, and what the best constant completion would earn on every row.

A policy that gives one answer to whatever it is asked can gain a lot where that answer is often right. So the most
frequent completions of the end are graded on all rows: the best of them is a baseline that a tuned model must beat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rft_cli.report.estimates import compare, row_means
from rft_cli.types import Estimate, Sample

FEW = 5
"""Completions of each validation that are tried as the one answer to every row."""
COLLAPSED = 0.9
"""Share of one completion above which a policy is said to have collapsed to it."""
FEWEST = 5
"""Completions below which a share says nothing."""
NEARLY_ALL = 0.95
"""Share of the tuned model's graded rows on which a completion must be graded to count as an answer to all of them."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """Of `n` completions: how many differ, the most frequent one and its share."""

    n: int
    distinct: int
    most_frequent: str
    share: float

    @property
    def collapsed(self) -> bool:
        """Whether one completion is nearly all of them."""
        return self.n >= FEWEST and self.share > COLLAPSED

    def to_json(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "distinct": self.distinct,
            "most_frequent": self.most_frequent,
            "share": self.share,
        }


@dataclass(frozen=True, slots=True)
class ConstantCompletion:
    """One completion for every row: its mean reward, and that of the tuned model less it, paired by row."""

    completion: str
    reward: Estimate
    after: Estimate
    difference: Estimate

    @property
    def as_good(self) -> bool:
        """Whether the tuned model is no better than it: the interval of the difference is not above 0."""
        return self.reward.n > 1 and self.difference.ci95[0] <= 0

    def to_json(self) -> dict[str, Any]:
        return {
            "completion": self.completion,
            "reward": self.reward.to_json(),
            "difference": self.difference.to_json(),
        }


def repetition_of(samples: Sequence[Sample]) -> Repetition | None:
    """How the completions differ; None without any."""
    if not samples:
        return None
    counts = Counter(sample.completion for sample in samples)
    text, count = counts.most_common(1)[0]
    return Repetition(len(samples), len(counts), text, count / len(samples))


def candidates(ends: Sequence[Sequence[Sample]], few: int = FEW) -> list[Sample]:
    """A sample of each completion to be tried on every row: of each of `ends` the `few` most frequent ones.

    Where no completion comes twice, that is the one with the highest reward.
    """
    found: dict[str, Sample] = {}
    for samples in ends:
        counts = Counter(sample.completion for sample in samples)
        rewards: dict[str, float] = {}
        first: dict[str, Sample] = {}
        for sample in samples:
            first.setdefault(sample.completion, sample)
            if sample.grade.reward is not None:
                rewards[sample.completion] = max(
                    rewards.get(sample.completion, sample.grade.reward), sample.grade.reward
                )
        order = sorted(counts, key=lambda text: (-counts[text], -rewards.get(text, float("-inf"))))
        repeated = [text for text in order if counts[text] > 1]
        for text in (repeated or order[:1])[:few]:
            found.setdefault(text, first[text])
    return list(found.values())


def best_constant(constants: Sequence[Sample], after: Sequence[Sample]) -> ConstantCompletion | None:
    """The completion that earns most when it is given on every row, against the tuned model's; None without any.

    `constants` has each completion on each row, in the order in which they were tried: the first of equals wins. Those
    that have a grade on few of the rows on which the tuned model has one do not count: their mean is of other rows.
    """
    by_text: dict[str, list[Sample]] = {}
    for sample in constants:
        by_text.setdefault(sample.completion, []).append(sample)
    tuned = row_means(after).keys()
    means: dict[str, float] = {}
    for text, samples in by_text.items():
        rows = [value for row, value in row_means(samples).items() if row in tuned]
        if rows and len(rows) >= NEARLY_ALL * len(tuned):
            means[text] = sum(rows) / len(rows)
    if not means:
        return None
    text = max(means, key=means.__getitem__)
    found = compare(by_text[text], after)
    return ConstantCompletion(text, found.before, found.after, found.difference)


def shown(text: str, width: int = 40) -> str:
    """The completion in quotes on one line, its beginning where it is long."""
    flat = " ".join(text.split())
    return f'"{flat}"' if len(flat) <= width else f'"{flat[: width - 1]}…"'
