"""The pilot's figures and its gate, every number written out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rft_cli.report.pilot import BANDS, Course, figures, percentile, shown, times
from rft_cli.report.pilot_gate import asked_form, judge_pilot, pilot_message
from rft_cli.types import Grade, GradeError, Sample


def sample(
    row: int, reward: float | None, tokens: int = 10, cut: bool = False, text: str = "x", **parts: float
):
    grade = Grade("graded", reward, parts) if reward is not None else Grade("skipped")
    return Sample(row, f"row-{row}", "prompt", text, tokens, cut, grade)


def rows(*groups: list[float | None], **also) -> list[Sample]:
    """A group of completions for each prompt."""
    return [sample(row, reward, **also) for row, group in enumerate(groups) for reward in group]


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([7], 0.95, 7), ([1, 2, 3, 4], 0.5, 2), (list(range(1, 101)), 0.95, 95), (list(range(1, 17)), 0.95, 16)],
)
def test_a_percentile_is_a_value_that_was_seen(values, share, found):
    assert percentile(values, share) == found


def test_figures():
    samples = [
        *rows([1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [None, 1.0]),
        sample(4, 0.0, 64, cut=True),
        Sample(4, "row-4", "prompt", "x", 20, False, Grade("failed", error=GradeError("raised", "no"))),
    ]
    found = figures(samples)
    assert (found.prompts, found.completions, found.ended) == (5, 10, 9)
    assert found.lengths == (10,) * 8 + (20,)
    assert found.statuses == {"graded": 8, "skipped": 1, "failed": 1}
    assert found.mean == pytest.approx(4 / 8)
    # Means by prompt: 0.5, 0, 1, 1, 0. Prompts 3 and 4 have one graded completion: they are no groups.
    assert dict(zip(BANDS, found.solved, strict=True)) == {
        "0": 2, "to 25 %": 0, "to 50 %": 1, "to 75 %": 0, "under 100 %": 0, "100 %": 2,
    }  # fmt: skip
    assert (found.groups.total, found.groups.constant) == (3, 2)
    assert found.teaches
    json = found.to_json()
    assert json["lengths"] == {"median": 10, "p95": 20}
    assert json["reward"] == {"mean": pytest.approx(0.5), "low": 0.0, "high": 1.0}


def test_bands_of_the_solve_rate():
    groups = [[1.0] * n + [0.0] * (8 - n) for n in range(9)]
    assert figures(rows(*groups)).solved == (1, 2, 2, 2, 1, 1)


def test_a_scorer_of_0_to_100_is_read_on_the_scale_that_was_seen():
    found = figures(rows([0.0, 100.0], [50.0, 50.0], [-20.0, -20.0]))
    assert (found.low, found.high) == (-20.0, 100.0)
    assert found.solved == (1, 0, 0, 2, 0, 0)  # -20 is nothing, 50 is 58 %


def test_no_grade_at_all():
    found = figures(rows([None, None]))
    assert (found.mean, found.teaches, found.groups.total) == (None, False, 0)
    judged = judge_pilot(found, rows([None, None]), {})
    assert judged.message.endswith("\nthe scorer graded none of 2 completions")


def test_the_best_the_middle_and_the_worst_are_shown():
    samples = rows([0.0, 0.4], [1.0, 0.4], [0.4, 0.0])
    assert [(s.row, s.grade.reward) for s in shown(samples)] == [(1, 1.0), (2, 0.4), (0, 0.0)]
    assert len(shown(samples[:1])) == 1
    assert len({s.row for s in shown(rows([0.0] * 8, [0.0] * 8, [0.0] * 8))}) == 3


def test_a_group_with_two_rewards_is_enough():
    samples = rows([0.0, 0.0, 0.0, 0.1], [0.0] * 4)
    assert judge_pilot(figures(samples), samples, {}).level == "ok"


def test_nearly_all_solved_is_a_warning():
    samples = rows([1.0] * 39 + [0.0], [1.0] * 40)
    judged = judge_pilot(figures(samples), samples, {})
    assert (judged.level, judged.message) == (
        "little",
        "99% of the base model's completions earn 1, the most that was seen: there is little to learn",
    )
    samples = rows([1.0] * 19 + [0.0])
    assert judge_pilot(figures(samples), samples, {}).level == "ok"  # 95 % is not over 95 %


def test_a_limit_that_the_context_sets_is_not_to_be_raised() -> None:
    samples = rows([0.0, 0.0], [0.0, 0.0], cut=True, tokens=48)
    first = judge_pilot(figures(samples), samples, {}, fills_context=True).advice[0]
    assert first.startswith("shorten the prompts or take a model with a longer context")
    assert "max_completion_tokens" not in first


HEAD = (
    "nothing can be learned from these rows: none of 2 prompts has two completions with different rewards\n"
)
ZERO = (
    "write a reference ('output') for some rows and teach those first with --algorithm sft; then --model RUN"
)
TEACH = (
    "teach it your references first: the same command with --algorithm sft makes a run, and with --model RUN"
)


@pytest.mark.parametrize(
    ("samples", "references", "why", "first"),
    [
        (
            rows([0.0, 0.0], [0.0, 0.0], cut=True, tokens=512),
            {},
            "every completion ran into the length limit and is graded unfinished; every completion earns 0",
            "raise rollout.max_completion_tokens",
        ),
        (
            rows([0.0, 0.0], [0.0, 0.0]),
            {0: '{"a": 1}', 1: '{"a": 2}'},
            "no completion is JSON, as the references are; every completion earns 0",
            "show the form in the prompt",
        ),
        (
            rows([0.0, 0.0], [0.0, 0.0], format_ok=0.0),
            {},
            "no completion has the form that the scorer's `format_ok` pays for; every completion earns 0",
            "show the form in the prompt",
        ),
        (rows([0.0, 0.0], [0.0, 0.0], format_ok=1.0), {}, "every completion earns 0", ZERO),
        (rows([0.0, 0.0], [0.0, 0.0]), {}, "every completion earns 0", ZERO),
        (rows([0.0, 0.0], [0.0, 0.0]), {0: None, 1: "billing"}, "every completion earns 0", TEACH),
        (rows([1.0, 1.0], [1.0, 1.0]), {}, "every completion earns 1", "the task is solved already"),
        (rows([0.3, 0.3], [0.3, 0.3]), {}, "every completion earns 0.3", "have the scorer give better"),
        (
            rows([0.0, 0.0], [1.0, 1.0]),
            {},
            "a prompt's completions all earn the same, though prompts differ",
            "the model always says the same: raise rollout.temperature",
        ),
        (
            [sample(0, 0.0, text="a"), sample(0, 0.0, text="b"), sample(1, 1.0), sample(1, 1.0)],
            {},
            "a prompt's completions all earn the same, though prompts differ",
            "have the scorer give better completions of a prompt more",
        ),
    ],
)
def test_what_was_seen_and_what_helps_first(samples, references, why, first):
    judged = judge_pilot(figures(samples), samples, references)
    assert judged.level == "nothing"
    assert judged.message == HEAD + why
    assert judged.advice[0].startswith(first)


def test_a_model_that_was_taught_too_long_is_to_be_taught_less():
    samples = rows([0.0, 0.0], [1.0, 1.0])
    assert "--n-epochs 1" in judge_pilot(figures(samples), samples, {}).advice[1]


def test_a_reward_of_0_has_four_ways_on():
    samples = rows([0.0, 0.0])
    assert judge_pilot(figures(samples), samples, {}).advice == (
        ZERO,
        "have the scorer pay for what is partly right",
        "begin with easier rows",
        "take a larger model",
    )


def test_json_that_is_too_deep_to_read_is_none():
    deep = [sample(0, 0.0, text="[" * 100_000)]
    assert asked_form(deep, {0: '{"a": 1}'}) == "is JSON, as the references are"


def test_the_message_shows_completions_on_one_line_and_the_advice_in_order():
    samples = [sample(0, 0.0, 12, text="one\ntwo"), sample(0, 0.0, 300, text="long " * 100)]
    said = pilot_message(judge_pilot(figures(samples), samples, {}), samples)
    assert said.message.splitlines()[2:] == [
        "  reward 0, 12 tokens: one two",
        "  reward 0, 300 tokens: " + ("long " * 100)[:160] + "…",
    ]
    assert said.fix.startswith(f"likeliest first:\n(1) {ZERO}\n(2) have the scorer pay")


def test_times_of_a_job():
    course = Course(batch=128, steps=4, passes=2, batches=10, validated=400)
    found = times(rollout_s=0.05, grade_s=0.01, forward_s=0.01, course=course)
    # 128 x 0.05; 128 x 0.01 x (2 + 3 x 2); (6.4 + 10.24) / 4; 10 x 16.64 + 400 x 0.05
    assert found == pytest.approx(
        {"completion": 0.05, "grade": 0.01, "rollout": 6.4, "update": 10.24, "step": 4.16, "job": 186.4}
    )
    assert times(0.05, 0.01, 0.01, None) == {"completion": 0.05, "grade": 0.01}


def test_grading_that_hides_behind_a_batch_is_not_counted() -> None:
    """128 completions of 0.4 s, of it 0.3 s graded: 12.8 s sampled, 10.2 s of updates, 38.4 s graded."""
    course = Course(batch=128, steps=4, passes=2, batches=10, validated=0)
    plain = times(rollout_s=0.4, grade_s=0.3, forward_s=0.01, course=course)
    ahead = times(rollout_s=0.4, grade_s=0.3, forward_s=0.01, course=replace(course, ahead=1))
    assert plain["job"] == pytest.approx(10 * (51.2 + 10.24))
    assert ahead["job"] == pytest.approx(10 * 38.4)
