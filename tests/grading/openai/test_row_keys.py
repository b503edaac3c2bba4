"""Which keys the templates of a spec name and rows lack."""

from __future__ import annotations

from typing import Any

from rft_cli.config.schema import GraderConfig
from rft_cli.grading.openai.row_keys import missing_keys
from rft_cli.types import Example, Source

JUDGE = {
    "type": "score_model",
    "name": "j",
    "model": "m",
    "input": [
        {"role": "developer", "content": "{{ item.rubric }}"},
        {"role": "user", "content": ["{{ sample.output_text }}", "{{ item.list[1] }} {{ item.answer }}"]},
    ],
}
ROWS = [
    Example("1", "p", {"rubric": "r", "answer": "a", "list": [1, 2]}, Source("t.jsonl", 1)),
    Example("2", "p", {"rubric": "r", "list": [1]}, Source("t.jsonl", 2)),
    Example("3", "p", {"rubric": "r", "list": [1]}, Source("t.jsonl", 3)),
]


def problems(spec: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(problem.message, problem.fix) for problem in missing_keys(GraderConfig(spec=spec), ROWS)]


def test_each_template_is_reported_once_with_its_first_row() -> None:
    spec = {"type": "multi", "name": "m", "graders": {"judge": JUDGE}, "calculate_output": "judge"}
    fix = "grader.spec: graders.judge.input[1].content names it: correct the template, or the row"
    assert problems(spec) == [
        ("t.jsonl:2: {{ item.list[1] }}: item.list has 1 item, so no [1], and so in 1 more", fix),
        (
            "t.jsonl:2: {{ item.answer }}: the row has no key 'answer' (keys: rubric, list), and so in 1 more",
            fix,
        ),
    ]


def test_a_row_of_a_file_that_is_given_twice_counts_once() -> None:
    spec = {
        "type": "string_check",
        "name": "c",
        "input": "{{ item.nope }}",
        "reference": "a",
        "operation": "eq",
    }
    ((message, _),) = [(p.message, p.fix) for p in missing_keys(GraderConfig(spec=spec), [ROWS[0], ROWS[0]])]
    assert message == "t.jsonl:1: {{ item.nope }}: the row has no key 'nope' (keys: rubric, answer, list)"


def test_graders_without_templates_or_missing_keys() -> None:
    assert problems({"type": "python", "name": "p", "source": "x"}) == []
    assert problems({**JUDGE, "input": JUDGE["input"][:1]}) == []
