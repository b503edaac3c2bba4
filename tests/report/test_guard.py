"""The guard: when a second grader's fall is an alarm, and what the result says of it."""

from dataclasses import replace

import pytest

from rft_cli.report.guard import alarm_of, compare_guard, guard_estimate, guard_json
from rft_cli.report.result import build_result
from rft_cli.report.summary import build_summary
from rft_cli.types import Grade, Sample
from tests.view.made_runs import line, make_run, sample


def guarded(rewards, guards):
    """A row for each reward, with the guard's."""
    return [
        replace(sample(row, reward), guard=None if guard is None else Grade("graded", guard))
        for row, (reward, guard) in enumerate(zip(rewards, guards, strict=True))
    ]


BASE = guarded([0.0] * 6, [0.8] * 6)
FOOLED = guarded([1.0] * 6, [0.2, 0.3, 0.2, 0.3, 0.2, 0.3])


def test_the_alarm_needs_a_reward_that_rose_and_a_guard_that_fell():
    alarm = alarm_of(BASE, FOOLED)
    assert alarm.reward.mean == 1.0
    assert alarm.guard.mean == pytest.approx(-0.55)
    assert alarm.text.startswith("the reward rose by 1.000 [1.000, 1.000] and the guard fell by 0.550 [0.5")
    assert alarm_of(BASE, guarded([1.0] * 6, [0.9] * 6)) is None
    # The guard fell on half of the rows and rose on the others: its interval holds 0.
    assert alarm_of(BASE, guarded([1.0] * 6, [0.2, 1.4] * 3)) is None
    assert alarm_of(BASE, guarded([0.0] * 6, [0.2] * 6)) is None


def test_without_a_guard_there_is_nothing():
    plain = [sample(row, 1.0) for row in range(4)]
    assert guard_estimate(plain) is None
    assert compare_guard(plain, plain) is None
    assert alarm_of(plain, plain) is None
    assert guard_json(plain, plain) is None
    assert "guard" not in plain[0].to_json()


def test_a_sample_keeps_its_guards_grade():
    one = guarded([1.0], [0.25])[0]
    assert Sample.from_json(one.to_json()) == one
    assert one.to_json()["guard"]["reward"] == 0.25


def test_result_table_headline_and_advice_name_the_fall(tmp_path):
    run = make_run(
        tmp_path, lines=[line(step) for step in range(1, 5)], validations={0: BASE, 4: FOOLED}, best_step=4,
        settings={"grader.path": "scorer.py"},
    )  # fmt: skip
    result = build_result(run)
    found = result["guard"]["validation"]
    assert (found["before"]["mean"], found["after"]["mean"]) == (pytest.approx(0.8), pytest.approx(0.25))
    assert found["alarm"].startswith("the reward rose by 1.000")
    assert result["next"] == f"rft grade --run {run.path} --reward-model scorer.py"
    summary = build_summary(run, result)
    assert "Guard: the reward rose by 1.000" in summary.headline
    assert [row.label for row in summary.table][:2] == ["reward", "guard"]
