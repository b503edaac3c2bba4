"""What a misbehaving endpoint does to grades: another try where that can help, else a failed grade of its kind."""

from __future__ import annotations

import time
from email.utils import formatdate
from pathlib import Path

import pytest

from rft_cli.grading.judge.endpoint import error_text
from tests.grading.judge.conftest import OpenJudge
from tests.grading.judge.servers import KEY, Act, JudgeServer, asks, completion, score_spec, verdict

GOOD = Act(body=verdict(0.5))
BROKEN = Act(500, {"error": {"message": "out of memory"}})


def failed(grade) -> tuple[str, str]:
    assert (grade.status, grade.reward) == ("failed", None)
    return grade.error.kind, grade.error.message


@pytest.mark.parametrize(
    "act",
    [
        BROKEN,
        Act(503, b"<html>busy</html>"),
        Act(408, {}),
        Act(409, {}),
        Act(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
        Act(drop=True),
        Act(200, b"{not json"),
        Act(200, b"\xff\xfe"),
        Act(200, [1]),
        Act(200, {"choices": []}),
        Act(200, {"error": {"message": "upstream is down", "code": 502}}),
        Act(200, {"choices": [{"message": "text"}]}),
    ],
)
def test_what_may_pass_is_tried_again(server: JudgeServer, judge: OpenJudge, act: Act) -> None:
    grader = judge()
    server.acts = [act, act, GOOD]
    assert grader.grade(asks("a"))[0].reward == 0.5
    assert len(server.seen) == 3
    assert grader._session.usage.to_metrics()["judge_retries"] == 2
    assert grader._session.usage.to_metrics()["judge_requests"] == 1


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (BROKEN, "judge_server", "HTTP 500: out of memory"),
        (Act(429, {"error": {"message": "slow down"}}), "judge_rate_limit", "HTTP 429: slow down"),
        (Act(drop=True), "judge_server", "connection lost: Server disconnected without sending a response."),
        (Act(200, b"<html>"), "judge_server", "the reply is not a chat completion: <html>"),
        (Act(200, {"choices": []}), "judge_server", 'the reply has no choices: {"choices": []}'),
    ],
)
def test_what_does_not_pass_is_a_failed_grade(
    server: JudgeServer, judge: OpenJudge, act: Act, kind: str, message: str
) -> None:
    grader = judge()
    server.default = lambda body: act if "bad" in str(body) else GOOD
    grades = grader.grade(asks("a", "bad", "b"))
    assert [grades[0].reward, grades[2].reward] == [0.5, 0.5]
    assert failed(grades[1]) == (kind, message)
    assert len([body for body in server.seen if "bad" in str(body)]) == 3  # the first try and two more


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"message": "bad key"}}, "judge_server"),
        (403, {"error": {"message": "not for you"}}, "judge_server"),
        (404, {"error": {"message": "no such model"}}, "judge_server"),
        (400, {"error": {"message": "too long"}}, "judge_server"),
        (429, {"error": {"message": "pay first", "code": "insufficient_quota"}}, "judge_rate_limit"),
    ],
)
def test_what_no_wait_will_change_is_not_tried_again(
    server: JudgeServer, judge: OpenJudge, status: int, body: dict, kind: str
) -> None:
    grader = judge()
    server.acts = [Act(status, body)]
    assert failed(grader.grade(asks("a"))[0]) == (kind, f"HTTP {status}: {body['error']['message']}")
    assert len(server.seen) == 1


@pytest.mark.parametrize("act", [Act(body=verdict(0.5), wait_s=30), Act(body=verdict(0.5), drip=True)])
def test_an_answer_that_does_not_come_in_time_is_a_timeout(
    server: JudgeServer, judge: OpenJudge, act: Act
) -> None:
    """Also one that comes byte by byte: the limit is for the whole answer."""
    grader = judge(timeout_s=0.3, retries=1)
    server.default = lambda _: act
    started = time.monotonic()
    expected = ("judge_timeout", "no answer within 0.3 s (grader.judge.timeout_s)")
    assert failed(grader.grade(asks("a"))[0]) == expected
    assert 0.6 <= time.monotonic() - started < 3
    assert len(server.seen) == 2


def test_a_server_that_goes_away_is_a_failed_grade(server: JudgeServer, judge: OpenJudge) -> None:
    grader = judge(retries=1)
    server.close()
    kind, message = failed(grader.grade(asks("a"))[0])
    assert kind == "judge_server"
    assert message.startswith("connection lost: ")


@pytest.mark.parametrize("header", ["seconds", "milliseconds", "date"])
def test_the_wait_that_a_server_asks_for_is_kept(server: JudgeServer, judge: OpenJudge, header: str) -> None:
    """In its place: with one request at a time, the next one starts after it."""
    grader = judge(concurrency=1)
    headers = {
        "seconds": {"Retry-After": "0.4"},
        "milliseconds": {"retry-after-ms": "400", "Retry-After": "60"},
        # HTTP dates have whole seconds: this one is between one and two seconds away.
        "date": {"Retry-After": formatdate(time.time() + 2, usegmt=True)},
    }[header]
    server.acts = [Act(429, {}, headers), GOOD, GOOD]
    assert [grade.reward for grade in grader.grade(asks("a", "b"))] == [0.5, 0.5]
    waited = server.times[1] - server.times[0]
    assert 0.39 <= waited < 5
    assert len(server.seen) == 3


@pytest.mark.parametrize("value", ["soon", "nan", "-3"])
def test_a_wait_that_means_nothing_is_passed_over(server: JudgeServer, judge: OpenJudge, value: str) -> None:
    grader = judge()
    server.acts = [Act(429, {}, {"Retry-After": value}), GOOD]
    started = time.monotonic()
    assert grader.grade(asks("a"))[0].reward == 0.5
    assert time.monotonic() - started < 2


def test_a_wait_of_an_hour_is_not_waited_for(server: JudgeServer, judge: OpenJudge) -> None:
    grader = judge()
    server.acts = [Act(429, {"error": {"message": "tomorrow"}}, {"Retry-After": "3600"})]
    assert failed(grader.grade(asks("a"))[0]) == ("judge_rate_limit", "HTTP 429: tomorrow")
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 422, 500])
def test_an_endpoint_without_structured_outputs_is_asked_in_words(
    server: JudgeServer, judge: OpenJudge, status: int
) -> None:
    refusal = {"error": {"message": "response_format.type must be 'text'", "param": "response_format"}}

    def no_schema(body: dict) -> Act:
        return Act(status, refusal) if "response_format" in body else GOOD

    server.default = no_schema
    grader = judge(concurrency=1)
    assert [grade.reward for grade in grader.grade(asks("a", "b"))] == [0.5, 0.5]
    # Once with the schema, then never again.
    assert ["response_format" in body for body in server.seen] == [True, False, False]
    assert grader._session.usage.to_metrics()["judge_retries"] == 0


@pytest.mark.parametrize("word", ["response_format", "max_completion_tokens"])
def test_requests_that_are_turned_down_together_are_all_asked_in_the_other_way(
    server: JudgeServer, judge: OpenJudge, word: str
) -> None:
    """Of several in flight each learns from its own answer, also what another one has already learnt."""
    refusal = Act(400, {"error": {"message": f"{word} is not supported"}}, wait_s=0.6)
    server.default = lambda body: refusal if word in body else GOOD
    grader = judge(score_spec(sampling_params={"max_completions_tokens": 100}), concurrency=4)
    assert [grade.reward for grade in grader.grade(asks(*"abcd"))] == [0.5] * 4
    assert server.most_in_flight == 4
    assert [word in body for body in server.seen] == [True] * 4 + [False] * 4


def test_an_endpoint_that_always_complains_of_the_format_is_not_asked_for_ever(
    server: JudgeServer, judge: OpenJudge
) -> None:
    server.default = lambda _: Act(400, {"error": "response_format is bad"})
    assert failed(judge().grade(asks("a"))[0]) == ("judge_server", "HTTP 400: response_format is bad")
    assert len(server.seen) == 2


def test_the_length_limit_has_an_older_name(server: JudgeServer, judge: OpenJudge) -> None:
    detail = [{"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"]}]

    def old(body: dict) -> Act:
        return Act(422, {"detail": detail}) if "max_completion_tokens" in body else GOOD

    server.default = old
    grader = judge(score_spec(sampling_params={"max_completions_tokens": 50}), concurrency=1)
    assert [grade.reward for grade in grader.grade(asks("a", "b"))] == [0.5, 0.5]
    assert [body.get("max_tokens") for body in server.seen] == [None, 50, 50]


def test_another_parameter_that_is_turned_down_fails_with_the_servers_words(
    server: JudgeServer, judge: OpenJudge
) -> None:
    """Leaving it out would be another judge than the spec's."""
    message = "Unsupported value: 'temperature' does not support 0 with this model."
    server.default = lambda _: Act(400, {"error": {"message": message, "param": "temperature"}})
    grader = judge(score_spec(sampling_params={"temperature": 0}))
    assert failed(grader.grade(asks("a"))[0]) == ("judge_server", f"HTTP 400: {message}")
    assert len(server.seen) == 1


def test_a_server_that_repeats_the_key_does_not_get_it_shown(server: JudgeServer, judge: OpenJudge) -> None:
    grader = judge(retries=0)
    for act in (
        Act(500, {"error": {"message": f"Bearer {KEY} met an error"}}),
        Act(200, f"<p>{KEY}</p>".encode()),
    ):
        server.acts = [act]
        message = failed(grader.grade(asks("a"))[0])[1]
        assert KEY not in message
        assert "[key]" in message


def test_a_judge_that_repeats_the_key_does_not_get_it_kept(
    server: JudgeServer, judge: OpenJudge, tmp_path: Path
) -> None:
    server.acts = [Act(body=completion(f'{KEY} {{"result": 0.5}}')), Act(body=completion(f"I saw {KEY}"))]
    good, bad = judge(concurrency=1).grade(asks("a", "b"))
    assert good.reward == 0.5
    assert bad.error is not None
    assert bad.error.trace == "the judge wrote: I saw [key]"
    texts = [file.read_text() for file in tmp_path.rglob("*.json")]
    assert len(texts) == 1
    assert "[key]" in texts[0]
    assert KEY not in texts[0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"error": {"message": "a  b\\nc"}}', "a b c"),
        ('{"error": "plain"}', "plain"),
        ('{"message": "flat"}', "flat"),
        ('{"detail": [{"loc": ["body"]}]}', '[{"loc": ["body"]}]'),
        ("<html>busy</html>", "<html>busy</html>"),
        ("", ""),
        ("x" * 1000, "x" * 300),
    ],
)
def test_what_servers_say_is_found(body: str, said: str) -> None:
    assert error_text(body) == said
