"""Graders that compare two texts in this process, and what makes 0 of completions that are not JSON."""

from __future__ import annotations

import operator
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from rft_cli.grading.feed import Feed
from rft_cli.grading.openai.templates import SAMPLE_PARSE, Missing, Scope, Template
from rft_cli.grading.protocol import BatchGrader, PartGrader
from rft_cli.types import Grade, GradeError, GradeRequest

Compare = Callable[[str, str], float]
"""(input, reference) → reward."""

UNPARSED = "sample_parse_error"
"""The component that counts completions which are not JSON."""
_BURST = 64


def _contains_in_any_case(text: str, reference: str) -> bool:
    return reference.casefold() in text.casefold()


OPERATIONS: dict[str, Compare] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "neq": operator.ne,
    "like": operator.contains,
    "ilike": _contains_in_any_case,
}
"""The operations of `string_check`; ilike compares casefolded texts."""


class BurstGrader:
    """Streams for a grader of batches."""

    def stream(self: BatchGrader, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time."""
        return (self.grade(burst) for burst in bursts(requests))


class TextGrader(BurstGrader):
    """Compares two rendered templates: `string_check`, and metrics of `text_similarity`."""

    def __init__(self, text: Template, reference: Template, compare: Compare) -> None:
        self._text = text
        self._reference = reference
        self._compare = compare

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        return [self._grade(request) for request in requests]

    def close(self) -> None:
        """Nothing to end."""

    def _grade(self, request: GradeRequest) -> Grade:
        start = time.perf_counter()
        scope = Scope(request)
        try:
            reward = float(self._compare(self._text.render(scope), self._reference.render(scope)))
        except Missing as missing:
            return Grade("failed", error=missing.error, seconds=time.perf_counter() - start)
        # A metric's library may fail on some texts.
        except Exception as error:
            failure = GradeError("raised", f"{type(error).__name__}: {error}", traceback.format_exc())
            return Grade("failed", error=failure, seconds=time.perf_counter() - start)
        return Grade("graded", reward, seconds=time.perf_counter() - start)


class JsonGrader:
    """A grader whose templates read the completion as JSON: where it is not JSON, its reward is 0, as at OpenAI.

    So a model can learn the form. The component `sample_parse_error` counts these completions: its mean is their share.
    """

    def __init__(self, grader: PartGrader) -> None:
        self._grader = grader
        self.close = grader.close

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        return [_without_parse_error(grade) for grade in self._grader.grade(requests)]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time."""
        return ([_without_parse_error(grade) for grade in burst] for burst in self._grader.stream(requests))


def _without_parse_error(grade: Grade) -> Grade:
    unparsed = grade.error is not None and grade.error.kind == SAMPLE_PARSE
    components = {**grade.components, UNPARSED: float(unparsed)}
    if not unparsed:
        return replace(grade, components=components)
    return replace(grade, status="graded", reward=0.0, components=components, error=None)


def bursts(requests: Iterable[GradeRequest]) -> Iterator[list[GradeRequest]]:
    """Requests 64 at a time; fewer where no more are available yet."""
    feed = Feed.of(requests)
    while burst := feed.take(_BURST):
        yield burst
