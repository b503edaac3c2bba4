"""A scorer that takes most of a rollout batch's time is named once, with what would make it cheaper."""

import pytest

from rft_cli.config.schema import GraderConfig, JudgeConfig
from rft_cli.events import Note, Stepped
from rft_cli.training.hooks.slow_grader import SlowGraderWarning


def step(number: int, seconds: float, grading: float, batch: int, total: int = 9) -> Stepped:
    metrics = {
        "completions": 8.0 * batch,
        "step_seconds": seconds,
        "grade_seconds": grading,
        "grade_seconds_p50": 0.5,
    }
    return Stepped(number, total, 0.1 * number, metrics)


def notes(
    steps: list[Stepped], judged: bool = False, processes: int = 1, ahead: int = 0, **grader: object
) -> list[Note]:
    seen: list = []
    watch = SlowGraderWarning(seen.append, GraderConfig(path="scorer.py", **grader), judged, processes, ahead)  # type: ignore[arg-type]
    for event in steps:
        watch(event)
    assert [event for event in seen if isinstance(event, Stepped)] == steps
    return [event for event in seen if isinstance(event, Note)]


SLOW = [
    step(1, 4.0, 4.0, 1),
    step(2, 0.4, 4.0, 1),
    step(3, 4.0, 4.0, 2),
    step(4, 0.4, 4.0, 2),
    step(5, 4.0, 4.0, 3),
]


def test_the_share_is_of_all_of_a_rollout_batchs_steps() -> None:
    (note,) = notes(SLOW, workers=1)
    assert (note.level, note.step) == ("warning", 2)
    assert note.text.startswith(
        "grading is 91% of a step: 500 ms a grade with 1 worker: make the scorer faster, or raise"
    )


@pytest.mark.parametrize(
    ("steps", "count"),
    [
        ([step(1, 4.0, 1.9, 1), step(2, 0.1, 1.9, 1), step(3, 4.0, 1.9, 2)], 0),  # less than half
        ([step(1, 0.9, 0.8, 1), step(2, 0.1, 0.8, 1), step(3, 0.9, 0.8, 2)], 0),  # nobody waits for that
        ([step(1, 4.0, 3.9, 1, total=1)], 1),  # a job of one step
        ([], 0),
    ],
)
def test_when_it_is_said(steps: list[Stepped], count: int) -> None:
    assert len(notes(steps, workers=1)) == count


def test_who_grades_is_said() -> None:
    assert "with 6 workers: " in notes(SLOW, processes=2, workers=3)[0].text
    assert "with 1 request at a time: raise grader.judge.concurrency" in (
        notes(SLOW, judged=True, judge=JudgeConfig(concurrency=1))[0].text
    )


def test_a_batch_ahead_is_named_where_there_is_none() -> None:
    assert notes(SLOW)[0].text.endswith("; --set rollout.ahead=1 grades while the job trains")
    assert "ahead" not in notes(SLOW, ahead=1)[0].text


def test_grading_that_nobody_waits_for_is_not_slow() -> None:
    hidden = [Stepped(s.step, 9, s.epoch, {**s.metrics, "grade_wait_seconds": 0.2}) for s in SLOW]
    assert notes(hidden, ahead=1) == []
