"""The graders that a tree is made of: one function a row, one call a batch, or a formula over other graders."""

from __future__ import annotations

import itertools
import operator
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rft_cli.grading.feed import Feed
from rft_cli.grading.openai.formula import Formula, FormulaError
from rft_cli.grading.openai.schema import StringCheck
from rft_cli.grading.openai.similarity import Similarity
from rft_cli.grading.openai.templates import SAMPLE_PARSE, Missing, Scope, Template, parse_template
from rft_cli.grading.protocol import BatchGrader, PartGrader
from rft_cli.types import Grade, GradeError, GradeRequest, TokenUse

Score = Callable[[Scope], float]

UNPARSED = "sample_parse_error"
"""The component that counts completions which are no JSON."""
_BURST = 64


class RowGrader:
    """Grades each completion with a function of rft's own, in this process."""

    def __init__(self, score: Score) -> None:
        self._score = score

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        return [self._one(request) for request in requests]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time."""
        return (self.grade(burst) for burst in bursts(requests))

    def close(self) -> None:
        """Nothing to end."""

    def _one(self, request: GradeRequest) -> Grade:
        start = time.perf_counter()
        try:
            reward = self._score(Scope(request))
        except Missing as missing:
            return Grade("failed", error=missing.error, seconds=time.perf_counter() - start)
        except Exception as error:  # a metric's library could not read this text
            failure = GradeError("raised", f"{type(error).__name__}: {error}", traceback.format_exc())
            return Grade("failed", error=failure, seconds=time.perf_counter() - start)
        return Grade("graded", reward, seconds=time.perf_counter() - start)


class BurstGrader:
    """A stream for a grader that works on batches."""

    def __init__(self, grader: BatchGrader) -> None:
        self._grader = grader
        self.close = grader.close

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        return self._grader.grade(requests)

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time."""
        return (self.grade(burst) for burst in bursts(requests))


class JsonGrader:
    """A grader whose templates read the completion as JSON: where it is none, its reward is 0, as at OpenAI.

    So a model can learn the form. The component `sample_parse_error` counts these completions: its mean is their share.
    """

    def __init__(self, grader: PartGrader) -> None:
        self._grader = grader
        self.close = grader.close

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        return [_of_json(grade) for grade in self._grader.grade(requests)]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time."""
        return ([_of_json(grade) for grade in burst] for burst in self._grader.stream(requests))


def _of_json(grade: Grade) -> Grade:
    bad = grade.error is not None and grade.error.kind == SAMPLE_PARSE
    components = {**grade.components, UNPARSED: float(bad)}
    if not bad:
        return replace(grade, components=components)
    return replace(grade, status="graded", reward=0.0, components=components, error=None)


class MultiGrader:
    """A formula over the rewards of named graders; each of them grades all requests."""

    def __init__(self, parts: Mapping[str, PartGrader], formula: Formula) -> None:
        self._parts = parts
        self._formula = formula

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        made = [part.grade(requests) for part in self._parts.values()]
        return [self._combine(row) for row in zip(*made, strict=True)]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order. Each part has a stream of its own; requests wait until the last part has read them."""
        copies = Feed.of(requests).copies(len(self._parts))
        first, *others = [part.stream(copy) for part, copy in zip(self._parts.values(), copies, strict=True)]
        flat = [itertools.chain.from_iterable(stream) for stream in others]
        for burst in first:
            yield [self._combine((grade, *(next(grades) for grades in flat))) for grade in burst]

    def close(self) -> None:
        """Close all parts."""
        for part in self._parts.values():
            part.close()

    def _combine(self, grades: Sequence[Grade]) -> Grade:
        """The row's grade: a part that failed fails the row, a part that skipped it skips it."""
        named = dict(zip(self._parts, grades, strict=True))
        components: dict[str, float] = {}
        for name, grade in named.items():
            if grade.reward is not None:
                components[name] = grade.reward
            components |= {f"{name}.{inner}": value for inner, value in grade.components.items()}
        seconds = sum(grade.seconds for grade in grades)
        usage = _total_usage(grades)
        for name, grade in named.items():
            if grade.error is not None:
                told = GradeError(grade.error.kind, f"{name}: {grade.error.message}", grade.error.trace)
                return Grade("failed", None, components, told, seconds, usage)
        if any(grade.reward is None for grade in grades):
            return Grade("skipped", None, components, None, seconds, usage)
        try:
            return Grade("graded", self._formula.value(components), components, None, seconds, usage)
        except FormulaError as error:
            return Grade("failed", None, components, GradeError("formula", str(error)), seconds, usage)


def _total_usage(grades: Iterable[Grade]) -> dict[str, TokenUse | None]:
    """What each judge model read and wrote for these grades; None where that is not known of all of them."""
    total: dict[str, TokenUse | None] = {}
    for grade in grades:
        for model, used in grade.usage.items():
            before = total.get(model, TokenUse(0, 0))
            if used is not None and before is not None:
                total[model] = TokenUse(before.read + used.read, before.written + used.written)
            else:
                total[model] = None
    return total


def _contains_in_any_case(text: str, reference: str) -> bool:
    return reference.casefold() in text.casefold()


_OPERATIONS: dict[str, Callable[[str, str], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "neq": operator.ne,
    "like": operator.contains,
    "ilike": _contains_in_any_case,
}


def string_check(spec: StringCheck) -> Score:
    """1.0 or 0.0 by the spec's operation; ilike compares casefolded texts."""
    left, right = parse_template(spec.input), parse_template(spec.reference)
    compare = _OPERATIONS[spec.operation]
    return lambda scope: float(compare(left.render(scope), right.render(scope)))


def text_similarity(text: Template, reference: Template, compare: Similarity) -> Score:
    """The metric of the two texts, filled in."""
    return lambda scope: compare(text.render(scope), reference.render(scope))


def bursts(requests: Iterable[GradeRequest]) -> Iterator[list[GradeRequest]]:
    """Requests 64 at a time; fewer where no more are there yet."""
    feed = Feed.of(requests)
    while burst := feed.take(_BURST):
        yield burst
