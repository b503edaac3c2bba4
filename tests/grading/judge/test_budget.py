"""The budget: every reply is charged to it, and once it is spent no further request goes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rft_cli.errors import RunFailed
from rft_cli.types import Grade
from tests.grading.judge.conftest import OpenJudge
from tests.grading.judge.servers import (
    KEY,
    MODEL,
    Act,
    JudgeServer,
    asks,
    completion,
    session_of,
    settings_of,
    verdict,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SENT = 739
"""Bytes of messages and schema in a request of `asks` with one letter."""


@pytest.mark.parametrize(("concurrency", "most"), [(1, 4), (8, 11)])
def test_a_budget_is_passed_by_the_requests_in_flight_at_most(
    server: JudgeServer, judge: OpenJudge, concurrency: int, most: int
) -> None:
    """Each uses 120 tokens of 400: the fourth reply spends the budget, while `concurrency` - 1 more are in flight."""
    server.default = lambda _: Act(body=verdict(0.5), wait_s=0.1)
    grader = judge(max_tokens=400, concurrency=concurrency)
    with pytest.raises(RunFailed) as caught:
        grader.grade(asks(*LETTERS))
    assert 4 <= len(server.seen) <= most
    spent = f"{len(server.seen)} requests, {len(server.seen) * 100:,} tokens read, {len(server.seen) * 20} written"
    assert caught.value.message == f"the judge's budget is spent: {spent}"
    assert caught.value.exit_code == 3


def test_a_budget_in_dollars(server: JudgeServer, judge: OpenJudge) -> None:
    """100 × 10 / 1e6 + 20 × 52.5 / 1e6 = 0.00205 dollars for each: the second reply passes 0.003."""
    grader = judge(max_cost=0.003, prices=[f"{MODEL}=10/52.5"], cache="none", concurrency=1)
    with pytest.raises(RunFailed) as caught:
        grader.grade(asks(*LETTERS))
    assert len(server.seen) == 2
    assert caught.value.message == (
        "the judge's budget is spent: 2 requests, 200 tokens read, 40 written, 0.0041 US dollars"
    )
    assert caught.value.fix == "raise grader.judge.max_cost, or go on with the same budget anew"


def test_what_was_graded_before_is_given_out_first(server: JudgeServer, judge: OpenJudge) -> None:
    stream = judge(max_tokens=500, concurrency=1).stream(asks(*LETTERS))
    graded: list[Grade] = []
    with pytest.raises(RunFailed) as caught:
        graded.extend(grade for burst in stream for grade in burst)
    assert [grade.reward for grade in graded] == [0.5] * 5
    assert caught.value.fix == (
        "raise grader.judge.max_tokens, or go on with the same budget anew: "
        "verdicts are kept in the cache, so only the rest is paid for"
    )


def test_a_run_after_a_spent_budget_pays_only_for_the_rest(server: JudgeServer, judge: OpenJudge) -> None:
    with pytest.raises(RunFailed):
        judge(max_tokens=500, concurrency=1).grade(asks(*"abcdefgh"))
    assert len(server.seen) == 5
    grader = judge(max_tokens=500, concurrency=1)
    assert [grade.reward for grade in grader.grade(asks(*"abcdefgh"))] == [0.5] * 8
    assert grader._session.usage.to_metrics()["judge_requests"] == 3
    # A spent budget still serves what is kept.
    with pytest.raises(RunFailed):
        grader.grade(asks(*LETTERS))
    assert grader.grade(asks("a"))[0].reward == 0.5


def test_what_is_in_flight_when_the_budget_ends_is_kept(server: JudgeServer, judge: OpenJudge) -> None:
    """It is paid for: another run finds it in the cache."""
    server.default = lambda body: Act(body=verdict(0.5), wait_s=0.0 if "\na\n" in str(body) else 0.3)
    with pytest.raises(RunFailed):
        judge(max_tokens=100, concurrency=4).grade(asks(*LETTERS))
    asked = len(server.seen)
    assert 1 <= asked <= 4
    assert judge(cache="none").grade(asks("a"))[0].reward == 0.5
    again = judge()
    again.grade(asks(*LETTERS))
    assert again._session.usage.cache_hits == asked


def test_processes_of_a_job_share_the_budget(server: JudgeServer, judge: OpenJudge, tmp_path: Path) -> None:
    """350 for each: the third reply of 120 spends it."""
    config = settings_of(server, tmp_path, max_tokens=700, concurrency=1, cache="none")
    for _ in range(2):
        # As torchrun and accelerate tell their processes.
        session = session_of(config, env={"OPENAI_API_KEY": KEY, "WORLD_SIZE": "2"})
        with pytest.raises(
            RunFailed, match=r"3 requests, 300 tokens read, 60 written by one of 2 processes$"
        ):
            judge(session=session).grade(asks(*LETTERS))
    assert len(server.seen) == 6


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": 5}, {"prompt_tokens": None, "completion_tokens": 3}, "many", [1, 2],
     {"prompt_tokens": "lots", "completion_tokens": 3}, {"prompt_tokens": -1, "completion_tokens": True}],
)  # fmt: skip
def test_replies_without_a_count_are_charged_by_their_bytes(
    server: JudgeServer, judge: OpenJudge, usage: Any
) -> None:
    """The verdict stands, and the budget holds: 739 bytes sent and 27 written for each, of 1,500."""
    server.default = lambda _: Act(
        body=completion('{"result": 0.5, "é": "ab"}', usage=None) | {"usage": usage}
    )
    grader = judge(max_tokens=1500, concurrency=1)
    assert grader.grade(asks("a"))[0].reward == 0.5
    assert grader._session.usage.describe() == (
        f"1 request, 0 tokens read, 0 written, 1 without a count of tokens, taken as {SENT + 27} tokens"
    )
    with pytest.raises(RunFailed, match="2 without a count of tokens, taken as 1,532 tokens"):
        grader.grade(asks("b", "c"))
    assert len(server.seen) == 2


def test_replies_without_a_count_cost_money_too(server: JudgeServer, judge: OpenJudge) -> None:
    """(739 × 10 + 27 × 50) / 1e6 = 0.00874 dollars for each: the second passes 0.01."""
    server.default = lambda _: Act(body=completion('{"result": 0.5, "é": "ab"}', usage=None))
    grader = judge(max_cost=0.01, prices=[f"{MODEL}=10/50"], concurrency=1, cache="none")
    with pytest.raises(RunFailed):
        grader.grade(asks(*LETTERS))
    assert len(server.seen) == 2


def test_without_a_budget_replies_without_a_count_are_only_said(
    server: JudgeServer, judge: OpenJudge
) -> None:
    server.default = lambda _: Act(body=verdict(0.5, usage=None))
    free = judge(cache="none")
    assert [grade.reward for grade in free.grade(asks("a", "b"))] == [0.5, 0.5]
    assert (
        free._session.usage.describe() == "2 requests, 0 tokens read, 0 written, 2 without a count of tokens"
    )
    assert free._session.usage.to_json()["unmetered"] == 2


def test_counts_written_as_strings_are_counts(server: JudgeServer, judge: OpenJudge) -> None:
    usage = {"prompt_tokens": "100", "completion_tokens": 20.0}
    server.default = lambda _: Act(body=verdict(0.5, usage=None) | {"usage": usage})
    grader = judge()
    grader.grade(asks("a"))
    assert grader._session.usage.describe() == "1 request, 100 tokens read, 20 written"
