"""Counts and costs; and that a job with judges ends when it is interrupted. Costs are worked by hand."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rft_cli.grading.judge.grader import JudgeGrader
from tests.grading.judge.conftest import OpenJudge
from tests.grading.judge.servers import (
    KEY,
    MODEL,
    Act,
    JudgeServer,
    asks,
    completion,
    label_spec,
    score_spec,
    session_of,
    settings_of,
    verdict,
)


def test_tokens_and_costs_are_counted_by_model(server: JudgeServer, judge: OpenJudge) -> None:
    server.default = lambda body: Act(
        body=verdict(
            "good" if body["model"] == "big" else 0.5,
            usage=(1000, 10) if body["model"] == "big" else (100, 20),
        )
    )
    prices = [f"{MODEL}=0.15/0.60", "big=2.5/10"]
    server.models = Act(body={"data": [{"id": MODEL}, {"id": "big"}]})
    small = judge(prices=prices)
    session = small._session
    small.grade(asks("a", "b"))
    judge(label_spec(model="big"), session, prices=prices).grade(asks("a"))
    # 200 × 0.15 / 1e6 + 40 × 0.60 / 1e6 = 0.000054;  1000 × 2.5 / 1e6 + 10 × 10 / 1e6 = 0.0026
    assert session.usage.to_metrics() == pytest.approx(
        {
            "judge_requests": 3,
            "judge_cache_hits": 0,
            "judge_retries": 0,
            "judge_clamped": 0,
            "judge_input_tokens": 1200,
            "judge_output_tokens": 50,
            "judge_cost": 0.002654,
            "judge_input_tokens/big": 1000,
            "judge_output_tokens/big": 10,
            "judge_cost/big": 0.0026,
            f"judge_input_tokens/{MODEL}": 200,
            f"judge_output_tokens/{MODEL}": 40,
            f"judge_cost/{MODEL}": 0.000054,
        }
    )
    assert session.usage.describe() == "3 requests, 1,200 tokens read, 50 written, 0.0027 US dollars"
    assert session.usage.to_json()["models"]["big"] == {
        "requests": 1,
        "input_tokens": 1000,
        "output_tokens": 10,
        "cost": pytest.approx(0.0026),
        "unmetered": 0,
    }


def test_a_model_without_a_price_has_no_cost(server: JudgeServer, judge: OpenJudge) -> None:
    grader = judge()
    grader.grade(asks("a"))
    assert "judge_cost" not in grader._session.usage.to_metrics()
    assert grader._session.usage.to_json()["cost"] is None


def test_a_verdict_that_can_not_be_read_costs_too(server: JudgeServer, judge: OpenJudge) -> None:
    server.acts = [
        Act(body=completion("hm", usage=(7, 3))),
        Act(body=completion(None, refusal="no", usage=(5, 1))),
    ]
    grader = judge(concurrency=1)
    grader.grade(asks("a", "b"))
    assert grader._session.usage.to_metrics()["judge_input_tokens"] == 12
    assert grader._session.usage.to_metrics()["judge_output_tokens"] == 4


def test_the_key_is_nowhere(
    server: JudgeServer, judge: OpenJudge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in logs at the most talkative level, files, metrics, or what any of the objects prints as."""
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore2", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    server.acts = [Act(500, {"error": {"message": KEY}})]
    grader = judge(score_spec())
    grades = grader.grade(asks("a", "b"))
    session = grader._session
    assert caplog.records  # the libraries do log
    shown = [
        caplog.text,
        repr(grades),
        repr(grader),
        repr(session),
        repr(vars(session)),
        repr(vars(grader)),
        repr(vars(session._client)),
    ]
    shown += [str(session.usage.to_json()), session.settings.model_dump_json()]
    assert not [text for text in shown if KEY in text]
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and KEY in file.read_text()]


def test_an_interrupted_process_ends_at_once(server: JudgeServer, tmp_path: Path) -> None:
    server.default = lambda _: Act(body=verdict(0.5), wait_s=60)
    program = f"""
import sys, threading, time
from contextlib import closing
from rft_cli.config.schema import JudgeConfig
from rft_cli.grading.judge.grader import JudgeGrader
from rft_cli.grading.judge.session import JudgeSession
from rft_cli.grading.openai.schema import ScoreModel
from rft_cli.types import GradeRequest
settings = JudgeConfig(base_url={server.url!r}, api_key_env="none", cache={str(tmp_path)!r})
spec = ScoreModel.model_validate({{
    "type": "score_model", "name": "q", "model": {MODEL!r},
    "input": [{{"role": "user", "content": "{{{{ sample.output_text }}}}"}}],
}})
try:
    with closing(JudgeGrader(spec, JudgeSession(settings))) as judge:
        print("asking", flush=True)
        judge.grade([GradeRequest(str(n), {{}}) for n in range(20)])
except KeyboardInterrupt:
    deadline = time.monotonic() + 2  # idle threads end by themselves, a moment later
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    print("left", [thread.name for thread in threading.enumerate()], flush=True)
    sys.exit(130)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "asking\n"
    deadline = time.monotonic() + 30
    while len(server.seen) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("left ['MainThread']\n", "", 130)
    assert time.monotonic() - started < 30  # not the 60 s of the answers


def test_a_process_that_forgets_to_close_ends_too(server: JudgeServer) -> None:
    program = f"""
from rft_cli.config.schema import JudgeConfig
from rft_cli.grading.judge.grader import JudgeGrader
from rft_cli.grading.judge.session import JudgeSession
from rft_cli.grading.openai.schema import ScoreModel
from rft_cli.types import GradeRequest
settings = JudgeConfig(base_url={server.url!r}, api_key_env="none", cache="none")
spec = ScoreModel.model_validate({{
    "type": "score_model", "name": "q", "model": {MODEL!r},
    "input": [{{"role": "user", "content": "{{{{ sample.output_text }}}}"}}],
}})
judge = JudgeGrader(spec, JudgeSession(settings))
print(judge.grade([GradeRequest("a", {{}})])[0].reward)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.stdout, run.stderr, run.returncode) == ("0.5\n", "", 0)


def test_the_context_of_a_session_closes_it(server: JudgeServer, tmp_path: Path) -> None:
    config = settings_of(server, tmp_path)
    with session_of(config) as session:
        JudgeGrader(score_spec(), session)
        assert session._client is not None
    assert session._client is None
    session.close()
