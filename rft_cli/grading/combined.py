"""Several graders as one: each grades every completion, and a subclass makes one reward of theirs."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rft_cli.grading.feed import Feed
from rft_cli.grading.protocol import PartGrader
from rft_cli.types import Grade, GradeError, GradeRequest, TokenUse


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
