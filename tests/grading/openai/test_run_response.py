"""The shape of /graders/run, against OpenAI's own type for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openai.types.fine_tuning.alpha import GraderRunResponse

from rft_cli.config.schema import GraderConfig
from rft_cli.grading.open import open_grader
from rft_cli.grading.openai.run_response import run_lines, to_openai_run
from rft_cli.grading.openai.templates import parse_template
from rft_cli.grading.openai.text_graders import TextGrader
from rft_cli.types import Grade, GradeError, GradeRequest, TokenUse
from tests.grading.judge.servers import Act, JudgeServer, completion, settings_of, verdict


def run(grade: Grade) -> dict[str, Any]:
    made = to_openai_run(grade, name="g", type="multi")
    assert (
        GraderRunResponse.model_validate(made, strict=True).to_dict(mode="json") == made
    )  # no key lost or added
    return made


def test_a_graded_completion() -> None:
    used = {"judge": TokenUse(7, 3)}
    made = run(Grade("graded", 0.5, {"a": 1.0, "b.c": 0.25}, seconds=0.125, usage=used))
    assert made["reward"] == 0.5
    assert made["sub_rewards"] == {"a": 1.0, "b.c": 0.25}
    assert made["model_grader_token_usage_per_model"] == {
        "judge": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    }
    errors = made["metadata"].pop("errors")
    assert made["metadata"] == {
        "name": "g",
        "type": "multi",
        "execution_time": 0.125,
        "scores": {"a": 1.0},
        "token_usage": 10,
        "sampled_model_name": "judge",
    }
    assert not any(errors.values())


def test_judges_that_are_several_or_do_not_tell_their_tokens() -> None:
    made = run(Grade("graded", 1.0, usage={"a": TokenUse(1, 2), "b": TokenUse(3, 4)}))
    assert list(made["model_grader_token_usage_per_model"]) == ["a", "b"]
    assert (made["metadata"]["token_usage"], made["metadata"]["sampled_model_name"]) == (10, None)
    made = run(Grade("graded", 1.0, usage={"a": None}))
    assert made["model_grader_token_usage_per_model"] == {}
    assert (made["metadata"]["token_usage"], made["metadata"]["sampled_model_name"]) == (None, "a")
    made = run(Grade("graded", 1.0))
    assert (made["metadata"]["token_usage"], made["metadata"]["sampled_model_name"]) == (None, None)


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("formula", {"formula_parse_error": True}),
        ("sample_parse", {"sample_parse_error": True}),
        ("invalid_variable", {"invalid_variable_error": True}),
        (
            "raised",
            {"python_grader_runtime_error": True, "python_grader_runtime_error_details": "why"},
        ),
        (
            "bad_value",
            {"python_grader_runtime_error": True, "python_grader_runtime_error_details": "why"},
        ),
        ("timeout", {"python_grader_server_error": True, "python_grader_server_error_type": "timeout"}),
        ("died", {"python_grader_server_error": True, "python_grader_server_error_type": "died"}),
        (
            "judge_server",
            {"model_grader_server_error": True, "model_grader_server_error_details": "why"},
        ),
        (
            "judge_rate_limit",
            {"model_grader_server_error": True, "model_grader_server_error_details": "why"},
        ),
        ("judge_refusal", {"model_grader_refusal_error": True}),
        ("judge_parse", {"model_grader_parse_error": True}),
        ("judge_budget", {"other_error": True}),
        ("of another kind", {"other_error": True}),
    ],
)
def test_failures(kind: str, flags: dict[str, Any]) -> None:
    made = run(Grade("failed", error=GradeError(kind, "why")))
    assert made["reward"] == 0.0
    assert {name: value for name, value in made["metadata"]["errors"].items() if value} == flags


def test_a_skipped_completion() -> None:
    errors = run(Grade("skipped"))["metadata"]["errors"]
    assert {name: value for name, value in errors.items() if value} == {
        "python_grader_runtime_error": True,
        "python_grader_runtime_error_details": (
            "returned None, which is not a number (rft leaves such a completion out)"
        ),
    }


def test_lines_of_a_spec_and_of_a_scorer(tmp_path: Path) -> None:
    spec = {"type": "string_check", "name": "größe", "operation": "eq", "input": "a", "reference": "a"}
    with open_grader(GraderConfig(spec=spec), log_path=None) as grader:
        (grade,) = grader.grade([GradeRequest("", {})])
        text = run_lines(grader)(grade)
    assert text.endswith(b"}\n")
    assert "größe".encode() in text
    made = GraderRunResponse.model_validate_json(text)
    assert (made.reward, made.metadata.name, made.metadata.type) == (1.0, "größe", "string_check")
    scorer = tmp_path / "scorer.py"
    scorer.write_text("def score(completion): return 1 / 0")
    with open_grader(GraderConfig(path=str(scorer), workers=1), log_path=None) as grader:
        (grade,) = grader.grade([GradeRequest("", {})])
        made = GraderRunResponse.model_validate_json(run_lines(grader)(grade))
    assert (made.metadata.name, made.metadata.type) == ("score(completion)", "python")
    assert made.metadata.errors.python_grader_runtime_error


JUDGE = {
    "type": "score_model",
    "name": "j",
    "model": "judge-model",
    "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
}


def test_tokens_of_judges_row_by_row(tmp_path: Path) -> None:
    """Two judges of one model add up; a question that was asked before costs nothing; a refusal costs what it did."""
    server = JudgeServer()

    def answer(body: dict[str, Any]) -> Act:
        text = body["messages"][-1]["content"]
        if text.startswith("no"):
            return Act(body=completion(None, refusal="I won't", usage=(9, 1)))
        return Act(body=verdict(0.25, usage=(30, 4)))

    server.default = answer
    spec = {
        "type": "multi",
        "name": "m",
        "graders": {"a": JUDGE, "b": {**JUDGE, "range": [0, 2]}},
        "calculate_output": "a + b",
    }
    env = {"api_key_env": "none", "concurrency": 1}
    config = GraderConfig(spec=spec, workers=1, judge=settings_of(server, tmp_path, **env))
    try:
        with open_grader(config, log_path=None) as grader:
            made = [
                GraderRunResponse.model_validate_json(run_lines(grader)(grade))
                for text in ("yes", "yes", "no")
                for grade in grader.grade([GradeRequest(text, {})])
            ]
    finally:
        server.close()
    assert [row.reward for row in made] == [0.5, 0.5, 0.0]
    assert [row.api_model_grader_token_usage_per_model for row in made] == [
        {"judge-model": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}}
        for read, written in ((60, 8), (0, 0), (18, 2))
    ]
    assert [row.metadata.token_usage for row in made] == [68, 0, 20]
    assert {row.metadata.sampled_model_name for row in made} == {"judge-model"}
    assert made[2].metadata.errors.api_model_grader_refusal_error


def test_a_grader_of_another_kind_is_not_python() -> None:
    class Model(TextGrader):
        signature = "reward model m"

    row: Any = Model(parse_template("a"), parse_template("b"), lambda text, reference: 0.5)
    (grade,) = row.grade([GradeRequest("", {})])
    made = GraderRunResponse.model_validate_json(run_lines(row)(grade))
    assert (made.reward, made.metadata.name, made.metadata.type) == (0.5, "reward model m", "reward_model")


def test_a_completion_that_is_not_json_has_its_flag_and_the_reward_0() -> None:
    made = run(Grade("graded", 0.5, {"a": 0.0, "a.sample_parse_error": 1.0, "b": 1.0}))
    assert (made["reward"], made["sub_rewards"]) == (0.5, {"a": 0.0, "b": 1.0})
    assert made["metadata"]["errors"]["sample_parse_error"] is True
    assert not run(Grade("graded", 1.0, {"sample_parse_error": 0.0}))["metadata"]["errors"][
        "sample_parse_error"
    ]
