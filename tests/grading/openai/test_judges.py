"""score_model and label_model: what a spec sends to its judges, and what comes back as grades."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageErrors
from rft_cli.grading.open import open_grader
from rft_cli.types import Grade, GradeRequest
from tests.grading.judge.servers import Act, JudgeServer, completion, settings_of, verdict
from tests.grading.openai.test_docs import SECTION

SCORE = {
    "type": "score_model",
    "name": "quality",
    "model": "judge-model",
    "input": [
        {"role": "developer", "content": "Grade it."},
        {
            "role": "user",
            "content": [
                "Q: {{ item.question }}",
                {"type": "input_text", "text": "A: {{ sample.output_text }}"},
            ],
        },
    ],
    "range": [0, 10],
    "sampling_params": {"temperature": 0.5, "max_completions_tokens": 50},
}
LABEL = {
    "type": "label_model",
    "name": "tone",
    "model": "judge-model",
    "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}

Judged = Callable[..., list[Grade]]


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    yield server
    server.close()


@pytest.fixture
def config(
    server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any], GraderConfig]:
    """The settings of a spec whose judges are asked at the server."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")

    def config(spec: Any) -> GraderConfig:
        return GraderConfig(spec=spec, workers=1, judge=settings_of(server, tmp_path))

    return config


def grades(config: GraderConfig, *texts: str, **row: Any) -> list[Grade]:
    with open_grader(config, log_path=None) as grader:
        return grader.grade([GradeRequest(text, row) for text in texts])


def test_a_score_model_asks_with_its_templates_filled_in(server: JudgeServer, config: Any) -> None:
    server.acts = [Act(body=verdict(7.5)), Act(body=verdict(99))]
    (first,) = grades(config(SCORE), "two", question="1+1?")
    (clamped,) = grades(config(SCORE), "three", question="1+1?")
    assert (first.reward, clamped.reward) == (7.5, 10.0)
    body = server.seen[0]
    assert body["messages"][0]["content"].startswith("Grade it.")
    assert body["messages"][1]["content"].startswith("Q: 1+1?\n\nA: two\n")
    assert (body["model"], body["temperature"], body["max_completion_tokens"]) == ("judge-model", 0.5, 50)


def test_the_rubric_in_the_docs(server: JudgeServer, config: Any) -> None:
    server.models = Act(body={"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model"}]})
    server.default = lambda body: Act(body=verdict(0.8))
    (block,) = re.findall(r"^```json\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
    row = {"input": "Where is it?", "output": "shipping"}
    (grade,) = grades(config(json.loads(block)), "Let me look.", **row)
    assert grade.reward == 0.8
    asked = server.seen[0]["messages"][1]["content"]
    assert asked.startswith("Message: Where is it?\nReference: shipping\nReply: Let me look.")


def test_a_label_model_passes_or_not(server: JudgeServer, config: Any) -> None:
    server.default = lambda body: Act(
        body=verdict("bad" if "rude" in json.dumps(body["messages"]) else "good")
    )
    assert [grade.reward for grade in grades(config(LABEL), "kind", "rude")] == [1.0, 0.0]


def test_judges_of_a_multi_share_their_session(server: JudgeServer, config: Any) -> None:
    def answer(body: dict[str, Any]) -> Act:
        return Act(body=verdict("good" if "bad" in json.dumps(body) else 5))

    server.default = answer
    spec = {
        "type": "multi",
        "name": "m",
        "graders": {"quality": SCORE, "tone": LABEL},
        "calculate_output": "tone * quality / 10",
    }
    with open_grader(config(spec), log_path=None) as grader:
        (grade,) = grader.grade([GradeRequest("two", {"question": "1+1?"})])
        assert (grade.reward, grade.components) == (0.5, {"quality": 5.0, "tone": 1.0})
        assert grader.stats.judges is not None
        assert grader.stats.to_json()["judges"]["requests"] == 2
    assert server.listings == 1


def test_a_verdict_that_is_none_is_a_failure_of_its_part(server: JudgeServer, config: Any) -> None:
    server.default = lambda body: Act(body=completion("I would say it is fine"))
    spec = {"type": "multi", "name": "m", "graders": {"quality": SCORE}, "calculate_output": "quality"}
    (grade,) = grades(config(spec), "two", question="1+1?")
    assert grade.error is not None
    assert (grade.status, grade.error.kind) == ("failed", "judge_parse")
    assert grade.error.message.startswith("quality: ")


def test_a_row_that_lacks_a_key_is_not_asked_about(server: JudgeServer, config: Any) -> None:
    (grade,) = grades(config(SCORE), "two")
    assert grade.error is not None
    assert (grade.error.kind, server.seen) == ("invalid_variable", [])


def test_the_session_closes_where_another_part_is_refused(config: Any) -> None:
    python = {"type": "python", "name": "p", "source": "x"}
    spec = {"type": "multi", "name": "m", "graders": {"a": SCORE, "b": python}, "calculate_output": "a + b"}
    with pytest.raises(UsageErrors):
        open_grader(config(spec), log_path=None)
    assert not [thread for thread in threading.enumerate() if thread.name == "rft-judge"]


def test_a_judge_without_a_key_is_reported_with_other_problems(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    python = {"type": "python", "name": "p", "source": "x"}
    spec = {"type": "multi", "name": "m", "graders": {"a": SCORE, "b": python}, "calculate_output": "a + b"}
    with pytest.raises(UsageErrors) as caught:
        open_grader(config(spec), log_path=None)
    first, second = (problem.message for problem in caught.value.problems)
    assert first.endswith("needs a key: the environment variable OPENAI_API_KEY is not set")
    assert second == "grader.spec: graders.b.source: defines no function 'grade'"
