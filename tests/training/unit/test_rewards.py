"""The grader as TRL's reward function."""

from __future__ import annotations

from rft_cli.training.rollouts.rewards import GradedBatch, GraderReward
from rft_cli.types import Example, Grade, GradeError, GradeRequest, Source
from tests.training import toys

EXAMPLES = [
    Example("a", "first", {"prompt": "first", "code": "007"}, Source("train.jsonl", 1)),
    Example("b", [{"role": "user", "content": "second"}], {"n": 2}, Source("train.jsonl", 2)),
]
ENCODER = toys.encoder_of()


def by_text(request: GradeRequest) -> Grade:
    if request.completion == "skip":
        return Grade("skipped")
    if request.completion == "break":
        return Grade("failed", error=GradeError("raised", "no"))
    return Grade("graded", float(len(request.completion)), {"length": 1.0})


def call(reward: GraderReward) -> list[float | None]:
    reward.current = reward.start([0, 1, 0, 1], ["abc", "", "skip", "break"], [[5, 6, 0], [], [5, 6, 7], [9]])
    return reward(trainer_state=None)


def test_only_graded_completions_have_a_reward() -> None:
    assert call(GraderReward(toys.FunctionGrader(by_text), EXAMPLES, [0, 9], ENCODER)) == [
        3.0,
        0.0,
        None,
        None,
    ]


def test_a_reward_that_is_too_large_to_train_on_is_a_failed_grade() -> None:
    def huge(request: GradeRequest) -> Grade:
        return Grade(
            "graded", {"abc": 1e15, "": -1e15, "skip": 1e16}.get(request.completion, -1e308), {"a": 1.0}
        )

    reward = GraderReward(toys.FunctionGrader(huge), EXAMPLES, [0, 9], ENCODER)
    assert call(reward) == [1e15, -1e15, None, None]
    failed = reward.last.samples[2].grade
    assert (failed.status, failed.reward, failed.components) == ("failed", None, {})
    assert failed.error == GradeError(
        "bad_value", "the reward 1e+16 is too large to train on: 1e+15 is the most, scale it down"
    )


def test_the_grader_gets_the_row_as_it_stood_in_the_file() -> None:
    grader = toys.FunctionGrader(by_text)
    call(GraderReward(grader, EXAMPLES, [0, 9], ENCODER))
    (requests,) = grader.requests
    assert [r.fields for r in requests] == [EXAMPLES[0].fields, EXAMPLES[1].fields] * 2
    assert [r.completion for r in requests] == ["abc", "", "skip", "break"]


def test_truncated_says_that_no_stop_token_ended_it() -> None:
    grader = toys.FunctionGrader(by_text)
    call(GraderReward(grader, EXAMPLES, [0, 9], ENCODER))
    assert [r.metadata for r in grader.requests[0]] == [
        {"completion_tokens": 3, "truncated": False},
        {"completion_tokens": 0, "truncated": True},
        {"completion_tokens": 3, "truncated": True},
        {"completion_tokens": 1, "truncated": False},
    ]


def test_the_books_keep_every_grade() -> None:
    seen: list[GradedBatch] = []
    reward = GraderReward(toys.FunctionGrader(by_text), EXAMPLES, [0, 9], ENCODER)
    reward.on_graded = seen.append
    rewards = call(reward)
    assert seen == [reward.last]
    assert reward.last.rewards() == rewards
    assert reward.last.seconds >= 0.0
    assert [(s.row, s.example_id, s.prompt, s.tokens, s.truncated) for s in reward.last.samples] == [
        (0, "a", "first", 3, False),
        (1, "b", "second", 0, True),
        (0, "a", "first", 3, True),
        (1, "b", "second", 1, False),
    ]
    assert [s.grade.status for s in reward.last.samples] == ["graded", "graded", "skipped", "failed"]


def test_trl_takes_its_name() -> None:
    assert GraderReward(toys.FunctionGrader(by_text), EXAMPLES, [], ENCODER).__name__ == "grader"
