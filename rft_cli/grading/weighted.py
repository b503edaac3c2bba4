"""Several scorers as one grader: the reward is the sum of theirs, each times its weight; each is a component."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.feed import Feed
from rft_cli.grading.pool import scorer_grader
from rft_cli.grading.pool.scorer_grader import ScorerGrader
from rft_cli.grading.protocol import Grader
from rft_cli.grading.source import read_sources, sha256_of_all
from rft_cli.grading.stats import GraderStats
from rft_cli.types import Grade, GradeError, GradeRequest

if TYPE_CHECKING:
    from rft_cli.grading.protocol import OnOutput
    from rft_cli.grading.wire.signature import Shape


class WeightedGrader(Grader):
    """The Grader of several scorers, `parts` by component name. Use `open_weighted`.

    A part that fails fails the completion. A part that gives None is left out of the sum, as in TRL; where all do, the
    completion is skipped.
    """

    def __init__(self, parts: Mapping[str, ScorerGrader], weights: Sequence[float]) -> None:
        self.parts = parts
        self.weights = weights
        self.stats = GraderStats()
        self.signature = " + ".join(
            part.signature if weight == 1 else f"{weight:g} x {part.signature}"
            for part, weight in zip(parts.values(), weights, strict=True)
        )
        self.sha256 = sha256_of_all([part.source for part in parts.values()])
        self.log_path: Path | None = next(iter(parts.values())).log_path

    @property
    def notes(self) -> tuple[str, ...]:
        """What the parts guess."""
        return tuple(f"{part.signature}: {note}" for part in self.parts.values() for note in part.notes)

    @property
    def may_ask(self) -> bool:
        """Whether a part may need what the model was asked."""
        return any(part.may_ask for part in self.parts.values())

    @property
    def needs_ids(self) -> bool:
        """Whether a part needs the completion's token ids."""
        return any(part.needs_ids for part in self.parts.values())

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        made = [part.grade(requests) for part in self.parts.values()]
        grades = [self._sum(row) for row in zip(*made, strict=True)]
        self.stats.add(grades)
        return grades

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time. Requests wait until the last part has read them."""
        copies = Feed.of(requests).copies(len(self.parts))
        first, *others = [part.stream(copy) for part, copy in zip(self.parts.values(), copies, strict=True)]
        flat = [itertools.chain.from_iterable(stream) for stream in others]
        for burst in first:
            grades = [self._sum((grade, *(next(more) for more in flat))) for grade in burst]
            self.stats.add(grades)
            yield grades

    def close(self) -> None:
        """End the workers of all parts; safe to call twice."""
        for part in self.parts.values():
            part.close()

    def _sum(self, grades: Sequence[Grade]) -> Grade:
        components: dict[str, float] = {}
        seconds = sum(grade.seconds for grade in grades)
        for name, grade in zip(self.parts, grades, strict=True):
            if grade.reward is not None:
                components[name] = grade.reward
            components |= {f"{name}.{inner}": value for inner, value in grade.components.items()}
        failed = next((grade.error for grade in grades if grade.error is not None), None)
        if failed is not None:
            return Grade("failed", None, components, failed, seconds)
        rewards = [
            weight * grade.reward
            for weight, grade in zip(self.weights, grades, strict=True)
            if grade.reward is not None
        ]
        if not rewards:
            return Grade("skipped", None, components, None, seconds)
        reward = sum(rewards)
        if reward - reward != 0:  # not finite
            error = GradeError("bad_value", f"the weighted sum of {self.signature} is not finite")
            return Grade("failed", None, components, error, seconds)
        return Grade("graded", reward, components, None, seconds)


def open_weighted(
    config: GraderConfig,
    *,
    log_path: Path | None,
    seed: int = 0,
    on_output: OnOutput | None = None,
    brief: bool = False,
    rows: Shape | None = None,
) -> WeightedGrader:
    """Open every scorer that `config` names; raises UsageErrors with what is wrong with any of them."""
    read_sources(config)  # what is wrong with the files is told of all at once
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
    """By the function's name; where two files have one of that name, with the file's in front."""
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
