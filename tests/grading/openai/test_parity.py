"""The parity table: every operation, metric, template form and formula against numbers that are not rft's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nltk.translate.gleu_score import sentence_gleu
from rapidfuzz import fuzz, utils
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_bleu
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from rft_cli.config.schema import GraderConfig
from rft_cli.grading.open import open_grader
from rft_cli.types import GradeRequest
from tests.grading.judge.servers import Act, JudgeServer, completion, settings_of
from tests.grading.openai.embeddings_server import Embeddings
from tests.grading.openai.parity_page import page
from tests.grading.openai.parity_table import (
    COSINE,
    FORMULAS,
    JUDGED,
    METEOR,
    METRICS,
    OPERATIONS,
    PYTHON,
    ROW,
    SHORT,
    TEMPLATES,
    Judged,
    Metric,
    expected_rewards,
)

PAGE = Path(__file__).parents[3] / "docs" / "graders-parity.md"


def similarity(metric: str, text: str, reference: str) -> dict[str, Any]:
    return {
        "type": "text_similarity",
        "name": metric,
        "evaluation_metric": metric,
        "input": text,
        "reference": reference,
    }


def check(operation: str, text: str, reference: str) -> dict[str, Any]:
    return {
        "type": "string_check",
        "name": operation,
        "operation": operation,
        "input": text,
        "reference": reference,
    }


def test_the_table_is_long_enough() -> None:
    expected = expected_rewards()
    assert len(expected) >= 60
    assert sum(reward not in (0.0, 1.0) for reward in expected) >= 40


def test_the_page_is_the_table() -> None:
    """Written by `python -m tests.grading.openai.parity_page docs/graders-parity.md`."""
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("case", METRICS, ids=lambda case: f"{case.metric} {case.text[:12]}")
def test_metric(case: Metric, graded: Any) -> None:
    spec = similarity(case.metric, "{{ sample.output_text }}", "{{ item.reference }}")
    (grade,) = graded(spec, [case.text], reference=case.reference)
    assert grade.error is None
    assert grade.reward == pytest.approx(case.expected, abs=1e-12)


@pytest.mark.parametrize("case", METRICS, ids=lambda case: f"{case.metric} {case.text[:12]}")
def test_the_numbers_are_the_libraries(case: Metric) -> None:
    tokens = Tokenizer13a()
    by_library = {
        "fuzzy_match": lambda a, b: fuzz.WRatio(a, b, processor=utils.default_process) / 100,
        "bleu": lambda a, b: sentence_bleu(a, [b]).score / 100,
        "gleu": lambda a, b: sentence_gleu([tokens(b).split()], tokens(a).split()),
    }
    if case.metric in by_library:
        value = by_library[case.metric](case.text, case.reference)
    else:
        name = case.metric.replace("_", "").replace("l", "L")
        value = RougeScorer([name]).score(case.reference, case.text)[name].fmeasure
    assert value == pytest.approx(case.expected, abs=1e-12)


def test_meteor(rft: Any, write: Any, small_wordnet: Path) -> None:
    spec = write("meteor.json", similarity("meteor", "{{ sample.output_text }}", "{{ item.reference }}"))
    rows = write("rows.jsonl", [{"completion": case.text, "reference": case.reference} for case in METEOR])
    result = rft("grade", "--reward-model", spec, rows, env={"NLTK_DATA": str(small_wordnet)})
    grades = [json.loads(line)["grade"] for line in result.out.splitlines()]
    assert [grade["error"] for grade in grades] == [None] * len(METEOR)
    assert [grade["reward"] for grade in grades] == pytest.approx(
        [case.expected for case in METEOR], abs=1e-12
    )


def test_cosine(embeddings: Embeddings) -> None:
    spec = similarity("cosine", "{{ sample.output_text }}", "{{ item.reference }}")
    with open_grader(embeddings.config(spec), log_path=None) as grader:
        grades = grader.grade([GradeRequest(case.text, {"reference": case.reference}) for case in COSINE])
    assert [grade.error for grade in grades] == [None] * len(COSINE)
    assert [grade.reward for grade in grades] == pytest.approx([case.expected for case in COSINE], abs=1e-12)


@pytest.mark.parametrize(("formula", "expected"), FORMULAS, ids=[formula for formula, _ in FORMULAS])
def test_formula(formula: str, expected: float, graded: Any) -> None:
    spec = {
        "type": "multi",
        "name": "m",
        "calculate_output": formula,
        "graders": {
            "one": check("eq", "{{ sample.output_text }}", "x"),
            "zero": check("ne", "{{ sample.output_text }}", "x"),
            "two_thirds": similarity("rouge_1", "a b c d", "a b"),
            "nine_tenths": similarity("fuzzy_match", *SHORT),
        },
    }
    (grade,) = graded(spec, ["x"])
    assert grade.reward == pytest.approx(expected, abs=1e-12)
    assert grade.components == {
        "one": 1.0,
        "zero": 0.0,
        "two_thirds": pytest.approx(2 / 3),
        "nine_tenths": 0.9,
    }


@pytest.mark.parametrize(("template", "completion", "text"), TEMPLATES, ids=[t[0] for t in TEMPLATES])
def test_template(template: str, completion: str, text: str, graded: Any) -> None:
    row = {**ROW, "expected": text}
    (grade,) = graded(check("eq", template, "{{ item.expected }}"), [completion], **row)
    assert grade.reward == 1.0
    (other,) = graded(check("eq", template, "{{ item.expected }}!"), [completion], **row)
    assert other.reward == 0.0


@pytest.mark.parametrize(("operation", "text", "reference", "reward"), OPERATIONS)
def test_operation(operation: str, text: str, reference: str, reward: float, graded: Any) -> None:
    spec = check(operation, "{{ sample.output_text }}", "{{ item.reference }}")
    assert graded(spec, [text], reference=reference)[0].reward == reward


@pytest.mark.parametrize(("source", "completion", "row", "reward"), PYTHON)
def test_python(source: str, completion: str, row: dict[str, Any], reward: float, graded: Any) -> None:
    spec = {"type": "python", "name": "p", "source": source, "image_tag": "2025-05-08"}
    assert graded(spec, [completion], **row)[0].reward == reward


@pytest.fixture(scope="module")
def judge() -> Iterator[JudgeServer]:
    server = JudgeServer()
    yield server
    server.close()


@pytest.mark.parametrize("case", JUDGED, ids=lambda case: f"{case.settings['type']} {case.reply[:24]}")
def test_judged(case: Judged, judge: JudgeServer, tmp_path: Path) -> None:
    judge.seen.clear()
    judge.default = lambda body: Act(body=completion(case.reply))
    asked = [{"role": "user", "content": [{"type": "input_text", "text": case.template}]}]
    spec = {**case.settings, "name": "j", "model": "judge-model", "input": asked}
    settings = settings_of(judge, tmp_path, api_key_env="none", cache="none")
    with open_grader(GraderConfig(spec=spec, judge=settings), log_path=None) as grader:
        (grade,) = grader.grade([GradeRequest(case.completion, ROW)])
    assert grade.error is None
    assert grade.reward == case.expected
    (body,) = judge.seen
    assert body["messages"][0]["content"].split("\n\n")[0] == case.asked
