"""Several graders as one: each grades every completion, and one reward is made of theirs."""

from __future__ import annotations

import itertools
import math
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.pool import scorer_grader
from rft_cli.grading.pool.scorer_grader import ScorerGrader
from rft_cli.grading.protocol import Feed, Grader, PartGrader
from rft_cli.grading.source import read_sources, sha256_of_all
from rft_cli.grading.stats import GraderStats
from rft_cli.types import Grade, GradeError, GradeRequest, TokenUse

if TYPE_CHECKING:
    from rft_cli.grading.protocol import OnOutput
    from rft_cli.grading.shape import Shape


class CombinedGrader(ABC):
    """Grades with every one of `parts`, whose rewards and components become components of the grade."""

    def __init__(self, parts: Mapping[str, PartGrader]) -> None:
        self.parts = parts

    @abstractmethod
    def reward(self, grades: Mapping[str, Grade]) -> float | GradeError | None:
        """The reward of a completion by the grades of the parts; None skips it, an error fails it."""

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
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
        """Close all parts; safe to call twice."""
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
        reward = self.reward(named)
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


class WeightedGrader(CombinedGrader, Grader):
    """The Grader of several scorers by component name. Use `open_weighted`.

    A part that fails fails the completion. A part that gives None is left out of the sum, as in TRL; where all do, the
    completion is skipped.
    """

    def __init__(self, scorers: Mapping[str, ScorerGrader], weights: Sequence[float]) -> None:
        super().__init__(scorers)
        self.scorers = tuple(scorers.values())
        self.weights = weights
        self.stats = GraderStats()
        self.signature = " + ".join(
            scorer.signature if weight == 1 else f"{weight:g} x {scorer.signature}"
            for scorer, weight in zip(self.scorers, weights, strict=True)
        )
        self.sha256 = sha256_of_all([scorer.source for scorer in self.scorers])
        self.log_path: Path | None = self.scorers[0].log_path

    @property
    def notes(self) -> tuple[str, ...]:
        """What the scorers guess."""
        return tuple(f"{scorer.signature}: {note}" for scorer in self.scorers for note in scorer.notes)

    @property
    def may_ask(self) -> bool:
        """Whether a scorer may need what the model was asked."""
        return any(scorer.may_ask for scorer in self.scorers)

    @property
    def needs_ids(self) -> bool:
        """Whether a scorer needs the completion's token ids."""
        return any(scorer.needs_ids for scorer in self.scorers)

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        grades = super().grade(requests)
        self.stats.add(grades)
        return grades

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time."""
        for grades in super().stream(requests):
            self.stats.add(grades)
            yield grades

    def reward(self, grades: Mapping[str, Grade]) -> float | GradeError | None:
        """The weighted sum of the rewards."""
        errors = [grade.error for grade in grades.values() if grade.error is not None]
        if errors:
            return errors[0]
        pairs = zip(self.weights, grades.values(), strict=True)
        terms = [weight * grade.reward for weight, grade in pairs if grade.reward is not None]
        if terms and not math.isfinite(sum(terms)):
            return GradeError("bad_value", f"the weighted sum of {self.signature} is not finite")
        return sum(terms) if terms else None


def open_weighted(
    config: GraderConfig,
    *,
    log_path: Path | None,
    seed: int = 0,
    on_output: OnOutput | None = None,
    brief: bool = False,
    rows: Shape | None = None,
) -> WeightedGrader:
    """Open every scorer that `config` names; raises UsageErrors with the problems of all of them."""
    # Raises the problems of all files at once.
    read_sources(config)
    opened: list[ScorerGrader] = []
    problems: list[UsageError] = []
    try:
        for one, _ in config.each():
            try:
                opened.append(
                    scorer_grader.open_grader(
                        one, log_path=log_path, seed=seed, on_output=on_output, brief=brief, rows=rows
                    )
                )
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
