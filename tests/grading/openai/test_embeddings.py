"""cosine against an endpoint: what is asked for, and what becomes of its faults. The numbers: test_parity.py."""

from __future__ import annotations

from typing import Any

import pytest

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageErrors
from rft_cli.grading.open import open_grader
from rft_cli.types import Grade, GradeRequest
from tests.grading.openai.embeddings_server import Embeddings

SPEC = {
    "type": "text_similarity",
    "name": "near",
    "evaluation_metric": "cosine",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.reference }}",
}


def grades(config: GraderConfig, *texts: str, reference: str = "1 0") -> list[Grade]:
    with open_grader(config, log_path=None) as grader:
        return grader.grade([GradeRequest(text, {"reference": reference}) for text in texts])


def refusal(config: GraderConfig) -> tuple[str, str | None]:
    with pytest.raises(UsageErrors) as caught:
        open_grader(config, log_path=None)
    (problem,) = caught.value.problems
    return problem.message, problem.fix


def test_texts_are_embedded_once_and_together(embeddings: Embeddings) -> None:
    config = embeddings.config(SPEC, model="small")
    made = grades(config, "3 4", "3 4", " ", *(f"{i} 1" for i in range(99)))
    assert [grade.reward for grade in made[:3]] == [0.6, 0.6, 0.0]
    probe, *asked = embeddings.asked
    assert probe["input"] == ["rft"]
    assert [len(body["input"]) for body in asked] == [64, 37]  # 99 + "3 4" + the reference
    assert {body["model"] for body in asked} == {"small"}


def test_a_stream(embeddings: Embeddings) -> None:
    with open_grader(embeddings.config(SPEC), log_path=None) as grader:
        requests = (GradeRequest("3 4", {"reference": "1 0"}) for _ in range(100))
        sizes = [[grade.reward for grade in grades] for grades in grader.stream(requests)]
    assert sizes == [[0.6] * 64, [0.6] * 36]


def test_the_key_comes_from_the_environment(embeddings: Embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    config = embeddings.config(SPEC, api_key_env="MY_KEY")
    monkeypatch.delenv("MY_KEY", raising=False)
    assert refusal(config) == (
        "grader.spec: cosine: the variable MY_KEY, which holds the endpoint's key, is not set",
        "set it, or grader.embeddings.api_key_env to none for a server that needs no key",
    )
    monkeypatch.setenv("MY_KEY", "sesame")
    grades(config, "1 0")
    assert set(embeddings.keys) == {"Bearer sesame"}


def test_without_an_endpoint_it_is_refused() -> None:
    assert refusal(GraderConfig(spec=SPEC)) == (
        "grader.spec: cosine needs an embeddings endpoint",
        "set grader.embeddings.base_url, for example to https://api.openai.com/v1, or use another metric",
    )


def test_an_endpoint_that_gives_no_vectors(embeddings: Embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rft_cli.grading.openai.embeddings._RETRIES", 0)
    monkeypatch.setattr("rft_cli.grading.openai.embeddings._PROBE", "bad")
    embeddings.fault = 404
    message, fix = refusal(embeddings.config(SPEC))
    assert message.startswith(
        f"grader.spec: cosine: the embeddings endpoint {embeddings.url} gives no vectors: "
    )
    assert fix == "check grader.embeddings.base_url and grader.embeddings.model"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (500, "judge_server"),
        (429, "judge_rate_limit"),
        ("hang", "judge_timeout"),
        ("garbage", "judge_server"),
    ],
)
def test_faults_fail_the_grades_they_hit(
    embeddings: Embeddings, monkeypatch: pytest.MonkeyPatch, fault: Any, kind: str
) -> None:
    monkeypatch.setattr("rft_cli.grading.openai.embeddings._RETRIES", 0)
    monkeypatch.setattr("rft_cli.grading.openai.embeddings._TEXTS_A_CALL", 2)
    embeddings.fault = fault
    made = grades(embeddings.config(SPEC), "3 4", "bad", "bad too")
    assert [grade.reward for grade in made] == [0.6, None, None]
    assert [grade.error and grade.error.kind for grade in made] == [None, kind, kind]


def test_vectors_of_two_lengths(embeddings: Embeddings) -> None:
    (grade,) = grades(embeddings.config(SPEC), "1 2 3")
    assert grade.error is not None
    assert grade.error.message == "embeddings: vectors of 3 and 2 numbers"


def test_a_row_without_the_key(embeddings: Embeddings) -> None:
    with open_grader(embeddings.config(SPEC), log_path=None) as grader:
        (grade,) = grader.grade([GradeRequest("a", {})])
    assert grade.error is not None
    assert grade.error.kind == "invalid_variable"
