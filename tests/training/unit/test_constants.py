"""Which completions are tried as the one answer to every row: five, or one where a grade is dear."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from rft_cli.training.constants import grade_constants
from rft_cli.types import Example, Grade, GradeRequest, Sample, Source

ROWS = [Example(f"{n}", f"q{n}", {"answer": "ab"[n % 2]}, Source("v.jsonl", n + 1)) for n in range(4)]


class ByRow:
    """Right where the completion is the row's answer; `judges` as a grader of judges has them."""

    def __init__(self, judges: object = None) -> None:
        self.stats = SimpleNamespace(judges=judges)
        self.requests: list[GradeRequest] = []

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        self.requests += requests
        return [Grade("graded", float(r.completion == r.fields["answer"])) for r in requests]


def samples(texts: str, seconds: float = 0.0) -> list[Sample]:
    grade = Grade("graded", 0.0, seconds=seconds)
    return [Sample(n, f"{n}", "q", text, 7, text == "c", grade) for n, text in enumerate(texts)]


def tried(grader: Any, *ends: list[Sample]) -> list[str]:
    found = grade_constants(grader, ends, ROWS)
    assert [sample.row for sample in found] == [*range(4)] * (len(found) // 4)
    return [sample.completion for sample in found[::4]]


def test_each_of_the_most_frequent_is_graded_on_every_row() -> None:
    grader = ByRow()
    assert tried(grader, samples("aaabbc"), samples("ccdd")) == ["a", "b", "c", "d"]
    assert [request.fields["answer"] for request in grader.requests[:4]] == ["a", "b", "a", "b"]
    assert grader.requests[0].prompt == "q0"
    assert grader.requests[0].metadata == {"completion_tokens": 7, "truncated": False}
    assert grader.requests[8].metadata == {"completion_tokens": 7, "truncated": True}
    found = grade_constants(ByRow(), [samples("aab")], ROWS)  # type: ignore[arg-type]
    assert [sample.grade.reward for sample in found] == [1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(("grader", "seconds"), [(ByRow(judges=object()), 0.0), (ByRow(), 0.2)])
def test_one_where_judges_are_paid_or_a_grade_is_slow(grader: ByRow, seconds: float) -> None:
    assert tried(grader, samples("aaabb", seconds), samples("ccdd", seconds)) == ["a"]
    assert len(grader.requests) == 4
