"""Which completions are tried as the one answer to every row: five, or as many as the time allows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rft_cli.errors import Interrupted
from rft_cli.events import Event, Progress
from rft_cli.runs import Run
from rft_cli.stopping import Stop
from rft_cli.training import constant_completions
from rft_cli.training.constant_completions import grade_constants, keep_constants
from rft_cli.training.context import JobContext
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


def seen(_done: int, _total: int) -> None:
    """Nobody looks."""


def tried(grader: Any, answers: list[Sample]) -> list[str]:
    found = grade_constants(grader, answers, ROWS, seen)
    assert [sample.row for sample in found] == [*range(4)] * (len(found) // 4)
    return [sample.completion for sample in found[::4]]


class Clock:
    """Seconds that a grader of `each` seconds a row has taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, each: float) -> None:
        self.each, self.now = each, 1000.0
        monkeypatch.setattr(constant_completions, "monotonic", lambda: self.now)

    def grader(self) -> ByRow:
        clock = self

        class Slow(ByRow):
            def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
                clock.now += clock.each * len(requests)
                return super().grade(requests)

        return Slow()


def test_each_of_the_most_frequent_is_graded_on_every_row() -> None:
    grader = ByRow()
    assert tried(grader, samples("aaabbccd")) == ["a", "b", "c"]
    assert [request.fields["answer"] for request in grader.requests[:4]] == ["a", "b", "a", "b"]
    assert grader.requests[0].prompt == "q0"
    assert grader.requests[0].metadata == {"completion_tokens": 7, "truncated": False}
    assert grader.requests[8].metadata == {"completion_tokens": 7, "truncated": True}
    found = grade_constants(ByRow(), samples("aab"), ROWS, seen)  # type: ignore[arg-type]
    assert [sample.grade.reward for sample in found] == [1.0, 0.0, 1.0, 0.0]


def test_one_where_judges_are_paid() -> None:
    grader = ByRow(judges=object())
    assert tried(grader, samples("aaabb")) == ["a"]
    assert len(grader.requests) == 4


@pytest.mark.parametrize(("each", "texts"), [(0.1, "abcde"), (2.5, "abc"), (5.0, "a"), (500.0, "a")])
def test_no_further_one_is_begun_that_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch, each: float, texts: str
) -> None:
    """Four rows a text, 30 seconds in all; the first one is graded whatever it takes."""
    assert tried(Clock(monkeypatch, each).grader(), samples("aaaaaabbbbbccccdddee")) == list(texts)


def test_it_tells_how_far_it_is_and_stops_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constant_completions, "AT_A_TIME", 3)
    run = Run.create(tmp_path, "job", config_yaml="", info={"model": "m"})
    run.write_samples("step-000000", samples("aabb"))
    job: Any = SimpleNamespace(validation=SimpleNamespace(examples=ROWS), test=None)
    grader: Any = ByRow()
    events: list[Event] = []
    context = JobContext(job, job, job, grader, events.append, Stop())
    keep_constants(context, run)
    what = "one answer for all validation rows"
    assert events == [Progress(what, 3, 8), Progress(what, 4, 8), Progress(what, 7, 8), Progress(what, 8, 8)]
    assert [s.row for s in run.read_samples("constant-validation")] == [0, 1, 2, 3] * 2

    grader.requests.clear()
    context.stop.note(15)
    with pytest.raises(Interrupted):
        keep_constants(context, run)
    assert len(grader.requests) == 3
