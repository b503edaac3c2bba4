"""Grades of judges that ask a real server on loopback: order, messages, parameters, three outcomes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rft_cli.grading.judge.usage import ModelUsage
from rft_cli.types import GradeError, GradeRequest
from tests.grading.judge.conftest import OpenJudge
from tests.grading.judge.servers import (
    MODEL,
    Act,
    JudgeServer,
    asks,
    completion,
    label_spec,
    score_spec,
    verdict,
)


def digit_verdict(body: dict) -> Act:
    """The judge gives the digit that ends the completion, in tenths."""
    text = body["messages"][-1]["content"].split("\n\nAnswer with")[0]
    return Act(body=verdict(int(text[-1]) / 10))


def test_grades_come_in_order(server: JudgeServer, judge: OpenJudge) -> None:
    server.default = digit_verdict
    grades = judge().grade(asks(*"7302"))
    assert [grade.reward for grade in grades] == [0.7, 0.3, 0.0, 0.2]
    assert [grade.status for grade in grades] == ["graded"] * 4
    assert all(grade.seconds > 0 for grade in grades)


@pytest.mark.parametrize(
    "content",
    [
        '{"result": 0.5, "why": "\ud800"}',
        [{"type": "text", "text": '{"result"'}, {"type": "text", "text": ": 0.5}"}],
        [
            {"type": "reasoning", "text": '{"result": 1}'},
            {"text": '{"result": 0.5}'},
            "odd",
            {"type": "text"},
        ],
    ],
)
def test_odd_replies_with_a_good_verdict_count(server: JudgeServer, judge: OpenJudge, content: Any) -> None:
    """Half a surrogate pair in its words, and text in parts, of which some are what the model thought."""
    server.default = lambda _: Act(body=completion(content))
    for _ in range(2):  # the second time from the cache
        assert judge(retries=0).grade(asks("a"))[0].reward == 0.5
    assert len(server.seen) == 1


def test_what_the_endpoint_is_sent(server: JudgeServer, judge: OpenJudge) -> None:
    sampling = {
        "seed": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completions_tokens": 64,
        "reasoning_effort": "low",
    }
    judge(score_spec(sampling_params={**sampling})).grade(asks("two"))
    sent = server.seen[0]
    assert {name: sent[name] for name in ("model", "seed", "temperature", "top_p", "reasoning_effort")} == {
        "model": MODEL,
        "seed": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "reasoning_effort": "low",
    }
    assert sent["max_completion_tokens"] == 64
    assert "max_completions_tokens" not in sent
    assert sent["response_format"]["type"] == "json_schema"
    assert sent["messages"][0] == {"role": "system", "content": "You grade answers."}
    assert sent["messages"][1]["content"].startswith("1+1?\ntwo\n\nAnswer with one JSON object")


def test_a_label_passes_or_not(server: JudgeServer, judge: OpenJudge) -> None:
    server.acts = [Act(body=verdict("good")), Act(body=verdict("bad")), Act(body=verdict("so so"))]
    grades = judge(label_spec(), concurrency=1).grade(asks("a", "b", "c"))
    assert [grade.reward for grade in grades] == [1.0, 0.0, None]
    assert grades[2].error is not None
    assert grades[2].error.kind == "judge_parse"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (completion("I would say 0.8"), "judge_parse"),
        (completion('{"result": NaN}'), "judge_parse"),
        (completion(""), "judge_parse"),
        (completion(None), "judge_parse"),
        (completion('{"steps": [{"descr', finish_reason="length"), "judge_parse"),
        (completion(None, refusal="I can't help with that."), "judge_refusal"),
        (completion('{"result": 1}', refusal="No."), "judge_refusal"),
        (completion('{"result": 1}', finish_reason="content_filter"), "judge_refusal"),
    ],
)
def test_a_reply_without_a_verdict_fails_and_is_never_0(
    server: JudgeServer, judge: OpenJudge, body: dict, kind: str
) -> None:
    server.default = lambda _: Act(body=body)
    grader = judge()
    for _ in range(2):  # and it is not kept: the second time the judge is asked again
        grade = grader.grade(asks("two"))[0]
        assert (grade.status, grade.reward) == ("failed", None)
        assert grade.error is not None
        assert grade.error.kind == kind
    assert len(server.seen) == 2


def test_a_result_out_of_range_is_clamped_and_counted(server: JudgeServer, judge: OpenJudge) -> None:
    server.acts = [Act(body=verdict(7)), Act(body=verdict(-2)), Act(body=verdict(0.5))]
    grader = judge(concurrency=1)
    assert [grade.reward for grade in grader.grade(asks("a", "b", "c"))] == [1.0, 0.0, 0.5]
    assert grader._session.usage.to_metrics()["judge_clamped"] == 2


def test_what_can_not_be_rendered_is_not_asked(server: JudgeServer, judge: OpenJudge) -> None:
    grades = judge().grade([GradeRequest("two", {}), *asks("two")])
    assert grades[0].error == GradeError(
        "invalid_variable", "{{ item.question }}: the row has no key 'question' (keys: none)"
    )
    assert grades[1].reward == 0.5
    assert len(server.seen) == 1


def test_the_usage_says_what_the_judge_was_asked(server: JudgeServer, judge: OpenJudge) -> None:
    server.acts = [Act(503, {}), Act(body=verdict(7)), Act(body=completion("no idea"))]
    grader = judge(concurrency=1)
    grader.grade(asks("a", "b", "a"))
    usage = grader._session.usage
    spent = {"requests": 2, "input_tokens": 200, "output_tokens": 40, "cost": None, "unmetered": 0}
    assert usage.to_json() == {
        **spent,
        "cache_hits": 1,
        "retries": 1,
        "clamped": 2,
        "models": {MODEL: spent},
    }
    assert usage.describe() == (
        "2 requests, 200 tokens read, 40 written, 1 from the cache, 1 retry, 2 clamped"
    )


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_requests_are_in_flight_than_allowed(
    server: JudgeServer, judge: OpenJudge, limit: int
) -> None:
    first = judge(concurrency=limit)
    second = judge(label_spec(), first._session, concurrency=limit)
    server.default = lambda body: Act(
        body=verdict("good" if "enum" in str(body) else 0.5),
        wait_s=0.1,
    )
    started = time.monotonic()
    with ThreadPoolExecutor(2) as both:
        grades = [*both.map(lambda grader: grader.grade(asks(*"abcdef")), (first, second))]
    assert [grade.reward for grade in grades[0] + grades[1]] == [0.5] * 6 + [1.0] * 6
    # Both judges together: they share the session's limit, and use it.
    assert min(2, limit) <= server.most_in_flight <= limit
    assert time.monotonic() - started >= 12 / limit * 0.1


def test_a_stream_asks_for_few_rows_at_a_time(server: JudgeServer, judge: OpenJudge) -> None:
    server.default = digit_verdict
    read = 0

    def rows():
        nonlocal read
        for number in range(40):
            read += 1
            yield asks(str(number % 10))[0]

    stream = judge(concurrency=2, cache="none").stream(rows())
    grades = next(stream)
    assert read <= 9  # four times two, and the one that was being read
    for burst in stream:
        grades += burst
    assert [grade.reward for grade in grades] == [number % 10 / 10 for number in range(40)]
    assert server.most_in_flight <= 2


def test_a_stream_that_is_left_cancels_what_it_asked(server: JudgeServer, judge: OpenJudge) -> None:
    server.default = lambda body: Act(body=verdict(0.5), wait_s=0.0 if "first" in str(body) else 30)
    grader = judge(concurrency=2, cache="none")
    stream = grader.stream(asks("first", *"abcdefghi"))
    assert next(stream)[0].reward == 0.5
    stream.close()
    server.default = lambda _: Act(body=verdict(0.25))
    started = time.monotonic()
    assert grader.grade(asks("next"))[0].reward == 0.25
    assert time.monotonic() - started < 5


def test_a_session_that_a_judge_closed_opens_again(server: JudgeServer, judge: OpenJudge) -> None:
    first = judge()
    second = judge(label_spec(), first._session)
    first.grade(asks("a"))
    first.close()
    first.close()
    server.default = lambda _: Act(body=verdict("good"))
    assert second.grade(asks("b"))[0].reward == 1.0
    second.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "rft-judge"]
    third = judge(label_spec(), second._session)
    assert third.grade(asks("c"))[0].reward == 1.0
    assert second._session.usage.models == {MODEL: ModelUsage(requests=3, input_tokens=300, output_tokens=60)}


def test_another_model_can_be_asked(server: JudgeServer, judge: OpenJudge) -> None:
    spec = score_spec(model="gpt-4o")
    grader = judge(spec, model=["o3=other", f"gpt-4o={MODEL}"])
    grader.grade(asks("a"))
    assert server.seen[0]["model"] == MODEL
