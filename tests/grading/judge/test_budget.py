"""The budget: what a request can take is held back before it is sent, so that no request passes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rft_cli.errors import RunFailed
from rft_cli.grading.judge.bounds import Most, most_tokens
from rft_cli.types import Grade
from tests.grading.judge.conftest import OpenJudge
from tests.grading.judge.servers import (
    KEY,
    MODEL,
    Act,
    JudgeServer,
    asks,
    book_of,
    completion,
    score_task,
    settings_of,
    verdict,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
READ = 995
"""The most that a request of `asks` with one letter can read: 739 bytes as sent, and 256 for the chat template."""
LIMITED = score_task(sampling={"max_completion_tokens": 20})


def worst(body: dict[str, Any]) -> Act:
    """A server whose tokens are single bytes, with a long template, and a judge that writes all that it may."""
    sent = len(json.dumps([body["messages"], body["response_format"]], ensure_ascii=False).encode())
    return Act(body=verdict(0.5, usage=(sent + 256, body["max_completion_tokens"])), wait_s=0.05)


def test_the_most_that_a_request_can_take() -> None:
    # [[{"role": "user", "content": "abc é"}], null] has 46 characters, of which é is two bytes.
    messages = [{"role": "user", "content": "abc é"}]
    assert most_tokens(messages, {"max_completion_tokens": 7}, None) == Most(47 + 256, 7)
    assert most_tokens(messages, {}, None).output is None


@pytest.mark.parametrize("concurrency", [1, 8])
def test_no_request_passes_the_budget(server: JudgeServer, judge: OpenJudge, concurrency: int) -> None:
    """Of 4,500 tokens four times 995 + 20 are used; with a fifth it would be 5,075."""
    server.default = worst
    grader = judge(LIMITED, max_tokens=4500, concurrency=concurrency)
    with pytest.raises(RunFailed) as caught:
        grader.grade(asks(*LETTERS))
    assert len(server.seen) == 4
    assert caught.value.message == (
        "the judge's budget is spent: 4 requests, 3,980 tokens read, 80 written; "
        "the next can take 1,015 tokens, and 440 are left"
    )
    assert (server.most_in_flight > 1) == (concurrency > 1)


def test_no_request_passes_a_budget_in_dollars(server: JudgeServer, judge: OpenJudge) -> None:
    """995 × 10 / 1e6 + 20 × 52.5 / 1e6 = 0.011 dollars for each: two of 0.03."""
    server.default = worst
    grader = judge(LIMITED, max_cost=0.03, prices=[f"{MODEL}=10/52.5"], cache="none")
    with pytest.raises(RunFailed) as caught:
        grader.grade(asks(*LETTERS))
    assert len(server.seen) == 2
    assert caught.value.message == (
        "the judge's budget is spent: 2 requests, 1,990 tokens read, 40 written, 0.0220 US dollars; "
        "the next can cost 0.0110, and 0.0080 are left"
    )
    assert caught.value.fix == (
        "raise grader.judge.max_cost, "
        "shorten what the judge is sent (each byte can be a token) or its max_completions_tokens, "
        "or go on with the same budget anew"
    )


def test_a_budget_too_small_for_one_request_sends_none(server: JudgeServer, judge: OpenJudge) -> None:
    with pytest.raises(RunFailed, match=r"0 requests, .*the next can take 1,015 tokens, and 500 are left"):
        judge(LIMITED, max_tokens=500).grade(asks("a"))
    assert server.seen == []


def test_what_is_not_used_is_given_back(server: JudgeServer, judge: OpenJudge) -> None:
    """Each uses 120 tokens: after four, 480 of 1,495 are gone, and the fifth may take 995 + 20."""
    stream = judge(LIMITED, max_tokens=1495, concurrency=1).stream(asks(*LETTERS))
    graded: list[Grade] = []
    with pytest.raises(RunFailed) as caught:
        graded.extend(grade for burst in stream for grade in burst)
    assert [grade.reward for grade in graded] == [0.5] * 5  # what was graded is given out first
    assert caught.value.message.startswith(
        "the judge's budget is spent: 5 requests, 500 tokens read, 100 written;"
    )
    assert caught.value.fix == (
        "raise grader.judge.max_tokens, "
        "shorten what the judge is sent (each byte can be a token) or its max_completions_tokens, "
        "or go on with the same budget anew: "
        "verdicts are kept in the cache, so only the rest is paid for"
    )
    assert caught.value.exit_code == 3


def test_without_a_limit_of_length_the_first_goes_alone(server: JudgeServer, judge: OpenJudge) -> None:
    """It shows how long replies are; then those in flight are held to be as long as the longest."""
    first = iter([True])
    server.default = lambda _: Act(
        body=verdict(0.5, usage=(100, 300 if next(first, None) else 20)), wait_s=0.1
    )
    grader = judge(max_tokens=10_000, concurrency=4)
    grader.grade(asks(*LETTERS[:12]))
    assert server.times[1] - server.times[0] >= 0.1
    assert server.most_in_flight > 1
    # 995 + 300 for each: of 1,700 a second one goes after the first (400), a third (520) does not.
    first = iter([True])
    small = judge(max_tokens=1700, cache="none")
    with pytest.raises(RunFailed, match=r"2 requests, .*the next can take 1,295 tokens, and 1,180 are left"):
        small.grade(asks(*LETTERS))


def test_a_run_after_a_spent_budget_pays_only_for_the_rest(server: JudgeServer, judge: OpenJudge) -> None:
    with pytest.raises(RunFailed):
        judge(max_tokens=1495, concurrency=1).grade(asks(*"abcdefgh"))
    assert len(server.seen) == 5
    grader = judge(max_tokens=1495, concurrency=1)
    assert [grade.reward for grade in grader.grade(asks(*"abcdefgh"))] == [0.5] * 8
    assert grader._book.to_metrics()["judge_requests"] == 3
    # A spent budget still serves what is kept.
    with pytest.raises(RunFailed):
        grader.grade(asks(*LETTERS))
    assert grader.grade(asks("a"))[0].reward == 0.5


def test_processes_of_a_job_share_the_budget(server: JudgeServer, judge: OpenJudge, tmp_path: Path) -> None:
    """1,255 for each: two requests of 120, and 995 + 20 are left for a third, not for a fourth."""
    config = settings_of(server, tmp_path, max_tokens=2510, concurrency=1, cache="none")
    for _ in range(2):
        # As torchrun and accelerate tell their processes.
        book = book_of(config, env={"OPENAI_API_KEY": KEY, "WORLD_SIZE": "2"})
        with pytest.raises(
            RunFailed, match=r"3 requests, 300 tokens read, 60 written by one of 2 processes; "
        ):
            judge(book=book).grade(asks(*LETTERS))
    assert len(server.seen) == 6


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"prompt_tokens": 5}, {"prompt_tokens": None, "completion_tokens": 3}, "many", [1, 2],
     {"prompt_tokens": "lots", "completion_tokens": 3}, {"prompt_tokens": -1, "completion_tokens": True}],
)  # fmt: skip
def test_replies_without_a_count_are_taken_at_their_most(
    server: JudgeServer, judge: OpenJudge, usage: Any
) -> None:
    """The verdict stands, and the budget holds: 995 + 20 tokens for each, of 2,100."""
    server.default = lambda _: Act(body=verdict(0.5, usage=None) | {"usage": usage})
    grader = judge(LIMITED, max_tokens=2100, concurrency=1)
    assert grader.grade(asks("a"))[0].reward == 0.5
    assert grader._book.told() == (
        "1 request, 0 tokens read, 0 written, 1 without a count of tokens, taken as 1,015 tokens"
    )
    with pytest.raises(RunFailed, match="2 without a count of tokens, taken as 2,030 tokens"):
        grader.grade(asks("b", "c"))
    assert len(server.seen) == 2


def test_replies_without_a_count_and_without_a_limit_count_by_their_bytes(
    server: JudgeServer, judge: OpenJudge
) -> None:
    server.default = lambda _: Act(body=completion('{"result": 0.5, "é": 1}', usage=None))
    grader = judge(max_tokens=10_000, prices=[f"{MODEL}=10/50"], max_cost=1.0)
    grader.grade(asks("a"))
    total = grader._book._ledger.total()
    assert total.assumed_tokens == 995 + 24
    assert total.assumed_cost == pytest.approx((995 * 10 + 24 * 50) / 1e6)


def test_without_a_budget_replies_without_a_count_are_only_said(
    server: JudgeServer, judge: OpenJudge
) -> None:
    server.default = lambda _: Act(body=verdict(0.5, usage=None))
    free = judge(cache="none")
    assert [grade.reward for grade in free.grade(asks("a", "b"))] == [0.5, 0.5]
    assert free._book.told() == "2 requests, 0 tokens read, 0 written, 2 without a count of tokens"
    assert free._book.to_json()["unmetered"] == 2


def test_counts_written_as_strings_are_counts(server: JudgeServer, judge: OpenJudge) -> None:
    usage = {"prompt_tokens": "100", "completion_tokens": 20.0}
    server.default = lambda _: Act(body=verdict(0.5, usage=None) | {"usage": usage})
    grader = judge()
    grader.grade(asks("a"))
    assert grader._book.told() == "1 request, 100 tokens read, 20 written"
