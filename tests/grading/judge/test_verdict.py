"""What judges write, read strictly: expected rewards by hand from the text; nothing unreadable becomes a 0."""

from __future__ import annotations

import json

import pytest

from rft_cli.grading.judge.verdict import JudgeVerdict, read_verdict, response_format, with_instruction
from rft_cli.types import GradeError
from tests.grading.judge.servers import label_spec, score_spec

SCORES = {
    '{"steps": [{"description": "d", "conclusion": "c"}], "result": 0.75}': 0.75,
    '{"result": 1}': 1.0,
    '{"result": 0, "steps": []}': 0.0,
    '{"result": "0.25"}': 0.25,
    '{"result": " .5 "}': 0.5,
    '{"result": 2.5e-1}': 0.25,
    '```json\n{"steps": [], "result": 0.3}\n```': 0.3,
    'Here it is: {"steps": [], "result": 0.3}. Good luck!': 0.3,
    'I saw {braces} and { more: {"result": 0.3}': 0.3,
    '<think>maybe {"result": 1.0}, no</think>{"result": 0.2}': 0.2,
    '{"result": 0.2} and again {"result": 0.2}': 0.2,
    '{"note": "first"} {"result": 0.6}': 0.6,
}


@pytest.mark.parametrize("text", SCORES)
def test_a_score_is_read(text: str) -> None:
    assert read_verdict(score_spec(), text) == JudgeVerdict(SCORES[text])


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ('{"result": 7}', 1.0),
        ('{"result": -0.1}', 0.0),
        ('{"result": 1e300}', 1.0),
        ('{"result": "-3"}', 0.0),
    ],
)
def test_a_number_outside_of_the_range_is_clamped(text: str, reward: float) -> None:
    assert read_verdict(score_spec(), text) == JudgeVerdict(reward, clamped=True)


def test_the_range_is_the_tasks() -> None:
    wide = score_spec(range=[-2, 10])
    assert read_verdict(wide, '{"result": 7}') == JudgeVerdict(7.0)
    assert read_verdict(wide, '{"result": -3}') == JudgeVerdict(-2.0, clamped=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.8",
        "The answer deserves 8 of 10.",
        "[0.5]",
        '{"score": 0.5}',
        '{"result": null}',
        '{"result": true}',
        '{"result": "8/10"}',
        '{"result": "high"}',
        '{"result": [0.5]}',
        '{"result": {"value": 0.5}}',
        '{"result": NaN}',
        '{"result": Infinity}',
        '{"result": "nan"}',
        '{"result": "inf"}',
        '{"result": 1e999}',
        '{"result": ' + "9" * 400 + "}",
        '{"result": 0.5',
        '{"verdict": {"result": 0.5}}',
        'It wrote {"result": 1.0}; my verdict: {"result": 0.0}',
        '{"result": 1} {"result": true}',
        '{"a":' * 5000,
        "{" * 5000,
    ],
)
def test_text_without_a_score_is_a_failed_grade(text: str) -> None:
    error = read_verdict(score_spec(), text)
    assert isinstance(error, GradeError)
    assert error.kind == "judge_parse"
    assert error.trace.startswith("the judge wrote: " + text[:100])
    assert len(error.trace) < 2100


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ('{"result": "good"}', 1.0),
        ('{"result": "bad"}', 0.0),
        ('{"result": " GOOD "}', 1.0),
        ('```\n{"steps": [], "result": "bad"}\n```', 0.0),
    ],
)
def test_a_label_is_read(text: str, reward: float) -> None:
    assert read_verdict(label_spec(), text) == JudgeVerdict(reward)


@pytest.mark.parametrize(
    "text", ['{"result": "ugly"}', '{"result": 1}', '{"result": ["good"]}', "good", '{"result": ""}']
)
def test_text_without_a_label_is_a_failed_grade(text: str) -> None:
    error = read_verdict(label_spec(), text)
    assert isinstance(error, GradeError)
    assert error.kind == "judge_parse"


def test_labels_that_differ_in_case_only_are_distinct() -> None:
    spec = label_spec(labels=["Yes", "YES"], passing_labels=["YES"])
    assert read_verdict(spec, '{"result": "YES"}') == JudgeVerdict(1.0)
    assert read_verdict(spec, '{"result": "Yes"}') == JudgeVerdict(0.0)
    assert isinstance(read_verdict(spec, '{"result": "yes"}'), GradeError)


def test_the_schema_is_what_strict_structured_outputs_take() -> None:
    form = response_format(label_spec())
    schema = form["json_schema"]["schema"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["strict"] is True
    assert schema["properties"]["result"] == {"type": "string", "enum": ["good", "bad"]}
    assert response_format(score_spec())["json_schema"]["schema"]["properties"]["result"] == {
        "type": "number"
    }
    # Structured outputs want every property required and no others, at each level.
    for level in (schema, schema["properties"]["steps"]["items"]):
        assert level["required"] == list(level["properties"])
        assert level["additionalProperties"] is False


def test_the_instruction_ends_the_last_user_message() -> None:
    sent = with_instruction(
        score_spec(range=[0, 5]),
        [{"role": "developer", "content": "Be strict."}, {"role": "user", "content": "Grade \ud800this"}],
    )
    assert [message["role"] for message in sent] == ["system", "user"]
    assert sent[1]["content"].startswith("Grade \ufffdthis\n\nAnswer with one JSON object")
    assert sent[1]["content"].endswith('"result" is a number from 0 to 5.')
    assert json.dumps(sent).encode()


def test_the_instruction_is_a_message_of_its_own_after_another_role() -> None:
    sent = with_instruction(
        label_spec(labels=["a", 'say "b"'], passing_labels=["a"]), [{"role": "assistant", "content": "Mine."}]
    )
    assert [message["role"] for message in sent] == ["assistant", "user"]
    assert sent[1]["content"].endswith('"result" is one of "a", "say \\"b\\"".')
