from __future__ import annotations

import pytest

from rft_cli.errors import RunFailed
from rft_cli.grading.stats import FailureMonitor, GraderStats, Reason
from rft_cli.types import Grade, GradeError


def graded(reward: float, seconds: float = 0.1, **components: float) -> Grade:
    return Grade("graded", reward, components, seconds=seconds)


def failed(kind: str = "raised", message: str = "scorer.py:1: ValueError: no", trace: str = "") -> Grade:
    return Grade("failed", error=GradeError(kind, message, trace), seconds=0.1)


def test_counts_means_and_reasons() -> None:
    stats = GraderStats()
    assert stats.to_json() == {
        "rows": 0,
        "graded": 0,
        "skipped": 0,
        "failed": 0,
        "failures": {},
        "rates": {"graded": 0.0, "skipped": 0.0, "failed": 0.0},
        "reward": {"mean": None, "min": None, "max": None},
        "components": {},
        "components_left_out": 0,
        "latency_s": {"p50": None, "p90": None, "p99": None, "max": None},
        "reasons": [],
    }
    stats.add([graded(0.0, 0.1, valid=1.0), graded(1.0, 0.4, valid=0.0, team=0.5), graded(-0.5, 0.2)])
    stats.add(
        [Grade("skipped", seconds=0.1), failed(trace="here"), failed(), failed("died", "gone"), graded(1.5)]
    )
    assert stats.to_json() == {
        "rows": 8,
        "graded": 4,
        "skipped": 1,
        "failed": 3,
        "failures": {"died": 1, "raised": 2},
        "rates": {"graded": 0.5, "skipped": 0.125, "failed": 0.375},
        "reward": {"mean": 0.5, "min": -0.5, "max": 1.5},
        "components": {"team": 0.5, "valid": 0.5},
        "components_left_out": 0,
        "latency_s": {"p50": 0.1, "p90": 0.4, "p99": 0.4, "max": 0.4},
        "reasons": [
            {"kind": "raised", "message": "scorer.py:1: ValueError: no", "count": 2, "trace": "here"},
            {"kind": "died", "message": "gone", "count": 1, "trace": ""},
        ],
    }
    assert stats.reasons()[0] == Reason("raised", "scorer.py:1: ValueError: no", 2, "here")
    assert stats.figures() == {
        "grader_skipped": 1,
        "grader_failed": 3,
        "grader_skipped_rate": 0.125,
        "grader_failed_rate": 0.375,
        "grader_failed/died": 1,
        "grader_failed/raised": 2,
        "grade_seconds_p50": 0.1,
        "grade_seconds_p90": 0.4,
        "grade_seconds_p99": 0.4,
    }


def test_new_names_of_components_come_to_an_end() -> None:
    stats = GraderStats()
    stats.add([graded(1.0, **{"n" * 201: 1.0})])
    stats.add(graded(1.0, **{f"n{number:03}": 0.5, "n000": 1.0}) for number in range(1, 300))
    document = stats.to_json()
    assert list(document["components"]) == [f"n{number:03}" for number in range(100)]
    assert document["components"]["n000"] == 1.0
    assert document["components_left_out"] == 1 + 200


def test_latency_of_many_grades_is_a_fair_sample() -> None:
    stats = GraderStats()
    stats.add(graded(0.0, seconds=i / 20_000) for i in range(20_000))
    assert stats.latency(0.5) == pytest.approx(0.5, abs=0.03)
    assert stats.latency(0.9) == pytest.approx(0.9, abs=0.02)
    assert stats.to_json()["latency_s"]["max"] == 19_999 / 20_000


def test_many_different_messages_are_counted_together() -> None:
    stats = GraderStats()
    stats.add(failed(message=f"message {i}") for i in range(1000))
    assert stats.failed == 1000
    assert stats.reasons()[0] == Reason("raised", "other messages", 800, "")


def test_monitor_stops_above_the_rate_once_there_are_enough() -> None:
    monitor = FailureMonitor(0.1)
    assert monitor.rate == 0.0
    monitor.observe([failed()] * 10 + [graded(1.0)] * 53)
    with pytest.raises(RunFailed):
        monitor.observe([Grade("skipped")])
    monitor = FailureMonitor(0.1)
    monitor.observe([graded(1.0)] * 58 + [failed()] * 6)
    assert monitor.rate == 6 / 64
    monitor.observe([graded(1.0)] * 512)
    assert monitor.rate == 0.0


def test_monitor_says_why() -> None:
    monitor = FailureMonitor(0.25)
    trace = "Traceback (most recent call last):\n  File scorer.py, line 1\nValueError: no\n"
    with pytest.raises(RunFailed) as caught:
        monitor.observe(
            [graded(1.0)] * 64 + [failed()] * 30 + [failed(trace=trace)] * 4 + [failed("timeout", "slow")]
        )
    assert caught.value.exit_code == 3
    assert caught.value.message.splitlines() == [
        "35% of the last 99 grades failed (grader.max_failure_rate is 25%):",
        "  34 × raised: scorer.py:1: ValueError: no",
        "  1 × timeout: slow",
        "one of them:",
        "  Traceback (most recent call last):",
        "    File scorer.py, line 1",
        "  ValueError: no",
    ]
    assert caught.value.fix is not None
    assert "rft grade" in caught.value.fix


def test_a_rate_of_one_never_stops() -> None:
    FailureMonitor(1.0).observe([failed()] * 600)
