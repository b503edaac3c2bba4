"""What a spec file may hold: against OpenAI's own types, and every problem at once with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.graders import (
    LabelModelGrader,
    PythonGrader,
    ScoreModelGrader,
    StringCheckGrader,
    TextSimilarityGrader,
)

from rft_cli.errors import UsageErrors
from rft_cli.grading.openai.load import read_inline, read_spec
from rft_cli.grading.openai.schema import Multi, ScoreModel, StringCheck

MESSAGE = {"role": "user", "content": "Grade {{ sample.output_text }} against {{ item.reference }}"}
CHECK = {"type": "string_check", "name": "c", "operation": "eq", "input": "a", "reference": "b"}
SIMILAR = {
    "type": "text_similarity",
    "name": "t",
    "evaluation_metric": "rouge_5",
    "input": "a",
    "reference": "{{ item.x }}",
}
PYTHON = {
    "type": "python",
    "name": "p",
    "source": "def grade(sample, item): return 1",
    "image_tag": "2025-05-08",
}
SCORE = {
    "type": "score_model",
    "name": "s",
    "model": "o3-mini",
    "input": [
        {**MESSAGE, "role": "developer", "type": "message"},
        {"role": "user", "content": {"type": "input_text", "text": "b"}},
        {"role": "assistant", "content": ["c", {"type": "output_text", "text": "d"}]},
    ],
    "range": [0, 7.5],
    "sampling_params": {
        "seed": 1,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completions_tokens": 100,
        "reasoning_effort": "low",
    },
}
LABEL = {
    "type": "label_model",
    "name": "l",
    "model": "gpt-4o",
    "input": [MESSAGE],
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}
STRICTER = [
    ("sampling_params", {"a": 1}),  # OpenAI's type lets unknown names through here
    ("passing_labels", ["word"]),  # and passing labels that are no labels
    ("labels", ["word"]),
]
ORACLES = {
    "string_check": StringCheckGrader,
    "text_similarity": TextSimilarityGrader,
    "python": PythonGrader,
    "score_model": ScoreModelGrader,
    "label_model": LabelModelGrader,
}


def load(spec: Any) -> Any:
    return read_spec(json.dumps(spec).encode(), "grader.json").spec


def accepted(spec: dict[str, Any]) -> bool:
    try:
        load(spec)
    except UsageErrors:
        return False
    return True


def accepted_by_openai(spec: dict[str, Any]) -> bool:
    try:
        ORACLES[spec["type"]].model_validate(spec, strict=True)
    except ValueError:
        return False
    return True


def problems(content: str, name: str = "grader.json") -> list[tuple[str, str | None]]:
    with pytest.raises(UsageErrors) as caught:
        read_spec(content.encode(), name)
    return [(problem.message, problem.fix) for problem in caught.value.problems]


@pytest.mark.parametrize("spec", [CHECK, SIMILAR, PYTHON, SCORE, LABEL], ids=lambda spec: spec["type"])
def test_openai_parses_the_same(spec: dict[str, Any]) -> None:
    """The spec, each field of it left out, and each field with a value of another type: taken or refused by both."""
    assert accepted_by_openai(spec)
    assert accepted(spec)
    for field in spec.keys() - {"type"}:
        without = {name: value for name, value in spec.items() if name != field}
        assert accepted(without) == accepted_by_openai(without), f"without {field}"
        for value in (5, "word", ["word"], {"a": 1}, None, True):
            if (field, value) in STRICTER:
                continue
            changed = {**spec, field: value}
            assert accepted(changed) == accepted_by_openai(changed), f"{field}: {value!r}"


@pytest.mark.parametrize("metric", TextSimilarityGrader.model_fields["evaluation_metric"].annotation.__args__)
def test_every_metric_of_openai(metric: str) -> None:
    assert load({**SIMILAR, "evaluation_metric": metric}).evaluation_metric == metric


@pytest.mark.parametrize(
    "operation", [*StringCheckGrader.model_fields["operation"].annotation.__args__, "neq"]
)
def test_every_operation_of_openai(operation: str) -> None:
    assert load({**CHECK, "operation": operation}).operation == operation


def test_multi_is_a_named_map() -> None:
    """The shape of the API's own requests; the SDK's type has one grader there, which is known to be wrong."""
    spec = load(
        {
            "type": "multi",
            "name": "m",
            "graders": {"a": CHECK, "b": SIMILAR},
            "calculate_output": "0.5 * a + b^2",
        }
    )
    assert isinstance(spec, Multi)
    assert {name: type(child).__name__ for name, child in spec.graders.items()} == {
        "a": "StringCheck",
        "b": "TextSimilarity",
    }
    assert not accepted({"type": "multi", "name": "m", "graders": CHECK, "calculate_output": "1"})


def test_what_is_kept() -> None:
    spec = load(SCORE)
    assert isinstance(spec, ScoreModel)
    assert spec.bounds() == (0.0, 7.5)
    assert load({**SCORE, "range": None}).bounds() == (0.0, 1.0)
    assert [list(message.content) for message in spec.input] == [
        [MESSAGE["content"]],
        ["b"],
        ["c", "d"],
    ]
    assert load({**SIMILAR, "pass_threshold": 0.5}).pass_threshold == 0.5


def test_yaml_and_inline() -> None:
    content = "type: string_check\nname: yes\noperation: eq\ninput: |\n  two\n  lines\nreference: '7'\n"
    spec = read_spec(content.encode(), "grader.yml").spec
    assert spec == StringCheck(
        type="string_check", name="yes", operation="eq", input="two\nlines\n", reference="7"
    )
    assert read_inline(CHECK).spec == load(CHECK)


def test_all_problems_at_once_with_their_places() -> None:
    content = """{
  "type": "multi",
  "name": 3,
  "graders": {
    "a": {"type": "string_chek", "name": "n"},
    "b": {"type": "string_check", "name": "n", "operation": "equals", "input": "{{ item.x | upper }}",
          "reference": "{{ itm.x }}", "pass_treshold": 1},
    "c": {"type": "score_model", "name": "n", "model": "m", "range": [1, 0],
          "input": [{"role": "usr", "content": [{"type": "input_image", "image_url": "x"}]}],
          "sampling_params": {"temprature": 1, "top_p": 2}},
    "1d": {"type": "label_model", "name": "n", "model": "m", "labels": ["good"], "passing_labels": ["god"],
           "input": []},
    "e": {"type": "text_similarity", "name": "n", "evaluation_metric": "rouge", "input": 5,
          "reference": "{{ sample.output_txt }}"},
    "log": 7,
    "e": {}
  },
  "calculate_output": "a + bb",
  "extra": null
}"""
    assert problems(content) == [
        ("grader.json:3:11: name: must be text (got 3)", 'quote it: "3"'),
        ('grader.json:5:19: graders.a.type: no such type: "string_chek"', "did you mean 'string_check'?"),
        (
            "grader.json:6:61: graders.b.operation: must be 'eq', 'ne', 'neq', 'like' or 'ilike' (got \"equals\")",
            None,
        ),
        (
            "grader.json:6:80: graders.b.input: {{ item.x | upper }}: can't read on at '| upper'",
            'write {{ item.KEY }}, with further .key, [0] or ["any key"]',
        ),
        (
            "grader.json:7:24: graders.b.reference: {{ itm.x }}: there is no namespace 'itm'",
            "did you mean 'item'? item (the data row) and sample (what the model wrote) are all there are",
        ),
        (
            "grader.json:7:39: graders.b.pass_treshold: unknown field",
            "did you mean 'pass_threshold'?",
        ),
        ("grader.json:8:70: graders.c.range: must be two numbers, the lower one first", "for example [0, 1]"),
        (
            "grader.json:9:30: graders.c.input[0].role: must be 'user', 'assistant', 'system' or 'developer' "
            '(got "usr")',
            "did you mean 'user'?",
        ),
        (
            "grader.json:9:48: graders.c.input[0].content: a part of type 'input_image': judges get text only here, "
            "no images",
            "remove the part, or describe it in text",
        ),
        (
            "grader.json:10:31: graders.c.sampling_params.temprature: unknown field",
            "did you mean 'temperature'?",
        ),
        (
            "grader.json:10:57: graders.c.sampling_params.top_p: must be at most 1 (got 2)",
            None,
        ),
        (
            "grader.json:11:5: graders.1d: calculate_output can't name this grader",
            "a name has letters, digits and _, doesn't begin with a digit, and isn't a function",
        ),
        (
            "grader.json:11:100: graders.1d.passing_labels: 'god' is not among the labels",
            "did you mean 'good'?",
        ),
        ("grader.json:12:21: graders.1d.input: is empty", "name at least one"),
        (
            "grader.json:13:72: graders.e.evaluation_metric: must be 'fuzzy_match', 'bleu', 'gleu', 'meteor', "
            "'cosine', 'rouge_1', 'rouge_2', 'rouge_3', 'rouge_4', 'rouge_5' or 'rouge_l' (got \"rouge\")",
            "did you mean 'rouge_l'?",
        ),
        ("grader.json:13:90: graders.e.input: must be text (got 5)", 'quote it: "5"'),
        (
            "grader.json:14:24: graders.e.reference: {{ sample.output_txt }}: sample has no 'output_txt'",
            "did you mean 'sample.output_text'?",
        ),
        (
            "grader.json:15:5: graders.log: calculate_output can't name this grader",
            "a name has letters, digits and _, doesn't begin with a digit, and isn't a function",
        ),
        (
            "grader.json:15:12: graders.log: a grader is an object with type, name and more",
            "see docs/graders.md",
        ),
        ("grader.json:16:5: 'e' is set twice, first on line 13", "remove one"),
        (
            "grader.json:18:23: calculate_output: column 5: there is no grader 'bb'",
            "did you mean 'b'?",
        ),
        (
            "grader.json:19:3: extra: unknown field",
            "known here: name, pass_threshold, type, graders, calculate_output",
        ),
    ]


def test_the_same_in_yaml_and_inline() -> None:
    content = "type: text_similarity\nname: t\nevaluation_metric: bleu\ninput: 7\nrefrence: a\n"
    assert problems(content, "grader.yaml") == [
        ("grader.yaml:1:1: reference: is missing", None),
        ("grader.yaml:4:8: input: must be text (got 7)", 'quote it: "7"'),
        ("grader.yaml:5:1: refrence: unknown field", "did you mean 'reference'?"),
    ]
    with pytest.raises(UsageErrors) as caught:
        read_inline(
            {"type": "multi", "name": "m", "graders": {"a": {**CHECK, "input": [1]}}, "calculate_output": "b"}
        )
    assert [problem.message for problem in caught.value.problems] == [
        "grader.spec: graders.a.input: must be text (got [1])",
        "grader.spec: calculate_output: column 1: there is no grader 'b'",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"type": "multi",}',
            "grader.json:1:17: not valid JSON: Illegal trailing comma before end of object",
        ),
        ('{"a": NaN}', "grader.json: not valid JSON: NaN is not a JSON number"),
        ("[" * 200 + "]" * 200, "grader.json: nested deeper than 100 levels"),
        ("[" * 100_000, "grader.json: nested too deep to read"),
        ("\x00", "grader.json:1:1: not valid JSON: Expecting value"),
        (" " * 1_000_001, "grader.json: larger than 1 MB: not a grader or a job"),
        ("[1]", "grader.json:1:1: a grader is an object with type, name and more"),
        ("{}", "grader.json:1:1: has no 'type'"),
        (
            '{"type": "multi", "name": "m", "graders": {}, "calculate_output": "1"}',
            "grader.json:1:43: graders: holds no grader",
        ),
        ('{"type": "multi", "name": "m", "calculate_output": "a"}', "grader.json:1:1: graders: is missing"),
        ('{"type": 7}', "grader.json:1:10: type: no such type: 7"),
        ('{"grader": {"type": "python"}}', "grader.json:1:1: has no 'type'"),
    ],
)
def test_files_that_are_no_spec(content: str, message: str) -> None:
    found = problems(content)
    if "trailing comma" in message:  # worded in another way before Python 3.13
        assert found[0][0].startswith("grader.json:1:1")
    else:
        assert [text for text, _ in found] == [message]


def test_a_part_of_a_job_is_not_a_grader() -> None:
    ((_, fix),) = problems('{"reinforcement": {"grader": {}}}')
    assert fix == "'reinforcement' is part of a job: give the grader object in it"


def test_bytes_that_are_not_utf8() -> None:
    with pytest.raises(UsageErrors) as caught:
        read_spec(b'{"type": "\xff"}', "grader.json")
    assert [problem.message for problem in caught.value.problems] == [
        "grader.json: byte 11 is not valid UTF-8"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "is empty"),
        ([5], "must be text, or parts such as {type: input_text, text: …}"),
        ([{"type": "input_audio"}], "a part of type 'input_audio': judges get text only here, no audio"),
        ([{"type": "input_txt", "text": "a"}], "a part of type 'input_txt'"),
        ([{"text": "a"}], "a part of type None"),
        ([{"type": "input_text"}], "a part of type 'input_text' without text"),
        ([{"type": "input_text", "text": "a", "b": 1}], "a part with an unknown field 'b'"),
        (["{{ item }}"], "{{ item }} names no variable"),
        (["{{ sample.output_audio }}"], "{{ sample.output_audio }}: rft trains models that write text"),
        (["{{ item.x }"], "{{ item.x } }}: can't read on at '}'"),
    ],
)
def test_message_contents(content: Any, message: str) -> None:
    found = problems(json.dumps({**LABEL, "input": [{"role": "user", "content": content}]}))
    assert [text.partition("input[0].content: ")[2] for text, _ in found] == [message]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("range", 5, "range: must be a list (got 5)"),
        ("range", [0, "a"], 'range[1]: must be a number (got "a")'),
        ("sampling_params", 5, "sampling_params: must be an object (got 5)"),
        ("sampling_params", {"seed": 0.5}, "sampling_params.seed: must be a whole number (got 0.5)"),
        ("sampling_params", {"seed": "a"}, 'sampling_params.seed: must be a whole number (got "a")'),
        ("sampling_params", {"top_p": 0}, "sampling_params.top_p: must be above 0 (got 0)"),
        ("input", ["a"], 'input[0]: must be an object (got "a")'),
        ("model", " ", "model: is empty"),
        ("model", "{{ item.judge }}", "model: holds a template"),
        ("range", [0, 1, 2], "range: must be two numbers, the lower one first"),
        ("range", [0, 1e999], "range[1]: must be a finite number"),
        (
            "sampling_params",
            {"temperature": -1},
            "sampling_params.temperature: must be at least 0 (got -1)",
        ),
        ("input", [{"role": "user", "content": "a", "nme": "b"}], "input[0].nme: unknown field"),
        ("input", [{"content": "a"}], "input[0].role: is missing"),
    ],
)
def test_values_of_a_judge(field: str, value: Any, message: str) -> None:
    with pytest.raises(UsageErrors) as caught:
        read_inline({**SCORE, field: value})
    assert [problem.message for problem in caught.value.problems] == [f"grader.spec: {message}"]


def test_places_in_json_with_escapes_and_tabs() -> None:
    found = problems(
        '{\n\t"na\\u006de": 1,\n\t"type":\t"python", "source" : "\\ud83d\\ude00 \\"[{"\n, "x": [ ], "y": {} }'
    )
    assert [text for text, _ in found] == [
        "grader.json:2:15: name: must be text (got 1)",
        "grader.json:4:3: x: unknown field",
        "grader.json:4:13: y: unknown field",
    ]


def test_one_grader_in_place_of_a_map() -> None:
    """What the openai package's type for multi suggests."""
    spec = {"type": "multi", "name": "m", "graders": CHECK, "calculate_output": "c +"}
    found = problems(json.dumps(spec))
    assert [message for message, _ in found] == [
        "grader.json:1:43: graders: must be a map of graders, not one grader",
        "grader.json:1:153: calculate_output: column 4: expected a number, a grader or '(', not the end",
    ]
    assert found[0][1] is not None
    assert found[0][1].startswith('write "graders": {"NAME": {"type": …}, …}, as the API takes it')
    (listed,) = problems(json.dumps({**spec, "graders": [CHECK], "calculate_output": "c"}))
    assert listed[0] == "grader.json:1:43: graders: must be a map of graders"


def test_a_name_that_no_formula_can_hold_is_one_problem() -> None:
    spec = {"type": "multi", "name": "m", "graders": {"a-b": CHECK}, "calculate_output": "a-b / 2"}
    assert [message for message, _ in problems(json.dumps(spec))] == [
        "grader.json:1:44: graders.a-b: calculate_output can't name this grader"
    ]


def test_a_metric_that_is_misspelled() -> None:
    ((message, fix),) = problems(json.dumps({**SIMILAR, "evaluation_metric": "rougeL"}))
    assert "'rouge_5' or 'rouge_l' (got \"rougeL\")" in message
    assert fix == "did you mean 'rouge_l'?"


def test_a_text_part_with_all_that_openai_takes() -> None:
    part = {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    spec = {**SCORE, "input": [{"role": "user", "content": [part]}]}
    assert accepted_by_openai(spec)
    assert [list(message.content) for message in load(spec).input] == [["a"]]
