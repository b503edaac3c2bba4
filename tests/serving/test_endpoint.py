"""`rft validate --endpoint` against servers that misbehave: one message, and no half result. No torch, no model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command import Ended, rft
from tests.grading.judge.servers import MODEL, Act, JudgeServer, completion

SCORER = "def score(completion, example):\n    return float(completion == example['output'])\n"
ROWS = [{"task": "Add.", "input": f"{n}+{n}", "output": str(2 * n)} for n in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scorer.py").write_text(SCORER)
    (tmp_path / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    server.default = answer
    yield server
    server.close()


def answer(body: dict[str, Any]) -> Act:
    """Right sums but for 3 + 3."""
    one, two = body["messages"][0]["content"].splitlines()[-1].split("+")
    return Act(body=completion("7" if one == "3" else str(int(one) + int(two))))


def validate(folder: Path, url: str, *more: str, model: str = MODEL, **env: str) -> Ended:
    data = ("-v", "val.jsonl", "--reward-model", "scorer.py", "--set", "grader.audit=none")
    return rft("validate", "--endpoint", url, "--model", model, *data, *more, folder=folder, env=env)


def test_someone_elses_model_on_own_rows(folder: Path, server: JudgeServer) -> None:
    """Messages, sampling settings and the key go out; the reward comes back, and every completion is kept."""
    settings = ("--set", "validation.temperature=0", "--set", "rollout.max_completion_tokens=5")
    done = validate(folder, server.url, "--json", "--api-key-env", "MY_KEY", *settings, MY_KEY="k-123")
    assert (done.code, done.err.count("error")) == (0, 0), done.err
    document = json.loads(done.out)
    assert document["validation"]["mean"] == pytest.approx(11 / 12)
    assert document["grader"] == {"graded": 12, "skipped": 0, "failed": 0}
    assert document["sampling"] == {"temperature": 0.0, "top_p": 1.0, "max_completion_tokens": 5}
    assert server.seen[0] == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Add.\n\n0+0"}],
        "temperature": 0.0,
        "top_p": 1.0,
        "max_completion_tokens": 5,
    }
    assert {headers["authorization"] for headers in server.headers} == {"Bearer k-123"}
    kept = [json.loads(line) for line in (folder / document["completions"][0]).read_text().splitlines()]
    assert [(row["input"], row["completion"]) for row in kept[2:4]] == [("2+2", "4"), ("3+3", "7")]


def test_no_key_goes_to_a_server_that_nobody_named_one_for(folder: Path, server: JudgeServer) -> None:
    done = validate(folder, server.url, "--min-reward", "0.95", OPENAI_API_KEY="k-123")
    assert done.code == 1
    assert done.problems == ["--min-reward 0.95 is not met: the mean reward is 0.9167"]
    assert all("authorization" not in headers for headers in server.headers)


def test_texts_go_to_completions_as_they_stand(folder: Path, server: JudgeServer) -> None:
    (folder / "val.jsonl").write_text('{"prompt": "1+1=", "output": "2"}\n')
    server.default = lambda _: Act(
        body={"id": "c", "object": "text_completion", "created": 0, "model": MODEL,
              "choices": [{"index": 0, "finish_reason": "stop", "text": "2"}]}
    )  # fmt: skip
    done = validate(folder, server.url, "--json", "--set", "data.prompt=text")
    assert json.loads(done.out)["validation"]["mean"] == 1.0
    assert server.seen[0]["prompt"] == "1+1="


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            Act(200, b"<!doctype html>"),
            "is not an OpenAI-compatible endpoint: the reply is not a chat completion",
        ),
        (Act(404, {"error": {"message": "no such model"}}), "does not answer for the model"),
        (Act(401, {"error": {"message": "who?"}}), "takes no requests with this key: HTTP 401: who?"),
        (
            Act(429, {"error": {"message": "pay", "code": "insufficient_quota"}}),
            "does not answer: HTTP 429: pay",
        ),
        (Act(wait_s=30), "does not answer: no answer within 0.5 s (--timeout)"),
    ],
)
def test_an_endpoint_that_can_not_be_used(folder: Path, server: JudgeServer, act: Act, message: str) -> None:
    server.models, server.default = Act(404, {}), lambda _: act
    done = validate(folder, server.url, "--timeout", "0.5", "--json")
    assert done.code == 2
    [problem] = done.problems
    assert f"the endpoint {server.url} {message}" in problem
    assert json.loads(done.out)["error"]["message"] == problem
    assert not (folder / "runs").exists()


def test_an_endpoint_that_breaks_off_midway(folder: Path, server: JudgeServer) -> None:
    """Half of each reply: retried, then one message, and nothing is kept."""
    server.acts = [answer({"messages": [{"content": f"\n{n}+{n}"}]}) for n in range(4)]
    server.default = lambda _: Act(body=completion("4"), headers={"x-should-retry": "false"}, drop=True)
    done = validate(folder, server.url, "--concurrency", "1", "--set", "grader.max_failure_rate=0")
    assert done.code == 3
    [problem] = done.problems
    assert problem.startswith(f"the endpoint {server.url} failed for 1 of the first 5 rows: connection lost")
    assert not (folder / "runs").exists()


def test_a_server_that_is_down_and_flags_that_lack_another(folder: Path) -> None:
    assert (
        validate(folder, "http://127.0.0.1:9/v1")
        .problems[0]
        .startswith("the endpoint http://127.0.0.1:9/v1 is out of reach: ")
    )
    assert validate(folder, "127.0.0.1:9").problems == [
        "--endpoint must begin with http:// or https:// and name a host"
    ]
    done = rft("validate", "--endpoint", "http://x/v1", "-v", "val.jsonl", folder=folder)
    assert (done.code, done.problems) == (2, ["--endpoint needs --model"])
