"""Several graders as one: each grades every completion, and one reward is made of theirs."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.pool.scorer_grader import ScorerGrader
from rft_cli.grading.protocol import Feed, Grader, PartGrader
from rft_cli.grading.source import read_sources, sha256_of_all
from rft_cli.grading.stats import GraderStats
from rft_cli.types import Grade, GradeError, GradeRequest, TokenUse

Combine = Callable[[Mapping[str, Grade]], float | GradeError | None]
"""The reward of a completion by the grades of the parts; None skips it, an error fails it."""


class CombinedGrader(PartGrader):
    """Grades with every one of `parts`, whose rewards and components become components; `reward` makes one of them."""

    def __init__(self, parts: Mapping[str, PartGrader], reward: Combine) -> None:
        self.parts = parts
        self._reward = reward

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        columns = [part.grade(requests) for part in self.parts.values()]
        return [self._combine(row) for row in zip(*columns, strict=True)]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time. Each part has a stream of its own; requests wait for the slowest."""
        copies = Feed.of(requests).copies(len(self.parts))
        first, *others = [part.stream(copy) for part, copy in zip(self.parts.values(), copies, strict=True)]
        flat = [itertools.chain.from_iterable(stream) for stream in others]
        for burst in first:
            yield [self._combine((grade, *(next(grades) for grades in flat))) for grade in burst]

    def close(self) -> None:
        for part in self.parts.values():
            part.close()

    def _combine(self, grades: Sequence[Grade]) -> Grade:
        named = dict(zip(self.parts, grades, strict=True))
        components: dict[str, float] = {}
        for name, grade in named.items():
            if grade.reward is not None:
                components[name] = grade.reward
            components |= {f"{name}.{inner}": value for inner, value in grade.components.items()}
        rest = (sum(grade.seconds for grade in grades), _total_usage(grades))
        reward = self._reward(named)
        if isinstance(reward, GradeError):
            return Grade("failed", None, components, reward, *rest)
        return Grade("skipped" if reward is None else "graded", reward, components, None, *rest)


def _total_usage(grades: Iterable[Grade]) -> dict[str, TokenUse | None]:
    """The tokens that each judge model used for these grades; None where one of them doesn't say."""
    total: dict[str, TokenUse | None] = {}
    for grade in grades:
        for model, used in grade.usage.items():
            before = total.get(model, TokenUse(0, 0))
            if used is None or before is None:
                total[model] = None
            else:
                total[model] = TokenUse(before.read + used.read, before.written + used.written)
    return total


class CountingGrader(Grader):
    """A Grader that has another one grade, and counts its grades."""

    def __init__(self, part: PartGrader) -> None:
        self._part = part
        self.stats = GraderStats()

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        grades = self._part.grade(requests)
        self.stats.add(grades)
        return grades

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        for grades in self._part.stream(requests):
            self.stats.add(grades)
            yield grades

    def close(self) -> None:
        self._part.close()


class WeightedGrader(CountingGrader):
    """The Grader of several scorers by component name. Use `open_weighted`.

    A part that fails fails the completion. A part that gives None is left out of the sum, as in TRL; where all do, the
    completion is skipped.
    """

    def __init__(self, scorers: Mapping[str, ScorerGrader], weights: Sequence[float]) -> None:
        super().__init__(CombinedGrader(scorers, self._weighted_sum))
        self.scorers = tuple(scorers.values())
        self.weights = weights
        self.signature = " + ".join(
            scorer.signature if weight == 1 else f"{weight:g} x {scorer.signature}"
            for scorer, weight in zip(self.scorers, weights, strict=True)
        )
        self.sha256 = sha256_of_all([scorer.source for scorer in self.scorers])
        self.log_path: Path | None = self.scorers[0].log_path

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(f"{scorer.signature}: {note}" for scorer in self.scorers for note in scorer.notes)

    @property
    def may_ask(self) -> bool:
        return any(scorer.may_ask for scorer in self.scorers)

    @property
    def needs_ids(self) -> bool:
        return any(scorer.needs_ids for scorer in self.scorers)

    def _weighted_sum(self, grades: Mapping[str, Grade]) -> float | GradeError | None:
        errors = [grade.error for grade in grades.values() if grade.error is not None]
        if errors:
            return errors[0]
        pairs = zip(self.weights, grades.values(), strict=True)
        terms = [weight * grade.reward for weight, grade in pairs if grade.reward is not None]
        if terms and not math.isfinite(sum(terms)):
            return GradeError("bad_value", f"the weighted sum of {self.signature} is not finite")
        return sum(terms) if terms else None


def open_weighted(
    config: GraderConfig, open_scorer: Callable[[GraderConfig], ScorerGrader]
) -> WeightedGrader:
    """Open every scorer that `config` names; raises UsageErrors with the problems of all of them."""
    # Raises the problems of all files at once.
    read_sources(config)
    opened: list[ScorerGrader] = []
    problems: list[UsageError] = []
    try:
        for one, _ in config.each():
            try:
                opened.append(open_scorer(one))
            except UsageError as error:
                problems += error.problems
        if problems:
            raise UsageErrors(problems) if len(problems) > 1 else problems[0]
        return WeightedGrader(_named(opened), [weight for _, weight in config.each()])
    except BaseException:
        for part in opened:
            part.close()
        raise


def _named(parts: Sequence[ScorerGrader]) -> dict[str, ScorerGrader]:
    """The scorers by function name; where two files have a function of that name, by file and function name."""
    functions = Counter(part.function_name for part in parts)
    named: dict[str, ScorerGrader] = {}
    for part in parts:
        name = part.function_name
        if functions[name] > 1:
            name = f"{os.path.splitext(os.path.basename(part.source.path))[0]}.{name}"
        if name in named:
            same = f"{named[name].source.shown} and {part.source.shown}"
            raise UsageError(f"{same}: both would be the component {name}", "name each function once")
        named[name] = part
    return named
