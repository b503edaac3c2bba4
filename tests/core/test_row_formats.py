"""Rows of the field's formats: the prompt, the reference, and what is said once of what is not read as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rft_cli.data.dataset import read_examples
from rft_cli.data.references import REFERENCE_KEYS, reference_of
from rft_cli.data.row_formats import FORMATS
from rft_cli.errors import UsageErrors
from tests.command import ROOT


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def read(folder: Path, *rows: dict[str, Any], **options: Any) -> Any:
    file = folder / "x.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_examples(str(file), **options)


@pytest.mark.parametrize(
    ("row", "format", "prompt", "reference"),
    [
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, "alpaca", [user("Add.\n\n1 2")], "3"),
        ({"instruction": "Add.", "input": "", "output": "3"}, "alpaca", [user("Add.")], "3"),
        ({"instruction": "Add.", "input": None, "output": "3"}, "alpaca", [user("Add.")], "3"),
        ({"instruction": "Add.", "output": "3"}, "alpaca", [user("Add.")], "3"),
        ({"instruction": "Add.", "context": "1 2", "response": "3"}, "alpaca", [user("Add.\n\n1 2")], "3"),
        (
            {"instruction": "And?", "output": "b", "system": "S", "history": [["q", "a"]]},
            "alpaca",
            [system("S"), user("q"), assistant("a"), user("And?")],
            "b",
        ),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
            "sharegpt",
            [user("Hi")],
            "Ho",
        ),
        (
            {"system": "S", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
            "sharegpt",
            [system("S"), user("Hi")],
            "Ho",
        ),
        ({"conversation": [user("Hi"), assistant("Ho")]}, "sharegpt", [user("Hi")], "Ho"),
        ({"prompt": "Hi", "completion": "Ho"}, "trl", "Hi", "Ho"),
        ({"prompt": [user("Hi")], "completion": [assistant("Ho")]}, "trl", [user("Hi")], "Ho"),
        ({"prompt": "Hi", "chosen": "Ho", "rejected": "No"}, "trl", "Hi", "Ho"),
        ({"prompt": "Hi", "response": "Ho"}, "trl", "Hi", "Ho"),
        ({"problem": "1+2?", "solution": "so 3", "answer": "3"}, "qa", [user("1+2?")], "3"),
        ({"query": "1+2?", "response": "3"}, "qa", [user("1+2?")], "3"),
        ({"question": "1+2?", "system_prompt": "S", "response": "3"}, "gsm8k", [system("S"), user("1+2?")], "3"),
        ({"question": "Who?", "context": "Ann did.", "answer": "Ann"}, "gsm8k", [user("Who?\n\nAnn did.")], "Ann"),
        ({"messages": [{"from": "human", "value": "Hi"}]}, "openai", [user("Hi")], None),
        ({"messages": [user("Hi")], "system": "S", "answer": "Ho"}, "openai", [system("S"), user("Hi")], "Ho"),
        (
            {"system": [{"text": "S"}], "messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
            "openai",
            [system("S"), user("Hi")],
            None,
        ),
        (
            {
                "systemInstruction": {"parts": [{"text": "S"}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "Hi"}]},
                    {"role": "model", "parts": [{"text": "Ho"}]},
                ],
            },
            "sharegpt",
            [system("S"), user("Hi")],
            "Ho",
        ),
        (
            {"messages": [{"role": "User", "content": "Hi"}, {"role": "Chatbot", "content": "Ho"}]},
            "openai",
            [user("Hi")],
            "Ho",
        ),
        ({"prompt": [user("Hi")], "system_prompt": "S"}, "trl", [system("S"), user("Hi")], None),
        (
            {"chosen": [user("Hi"), assistant("Ho")], "rejected": [user("Hi"), assistant("No")]},
            "preference",
            [user("Hi")],
            "Ho",
        ),
        ({"prompt": "Hi", "completion": "Ho", "label": True}, "trl", "Hi", "Ho"),
        ({"prompt": "Hi", "completion": "No", "label": False}, "trl", "Hi", None),
        ({"prompt": "Good?", "label": True}, "trl", "Good?", "true"),
        ({"task": "Add.", "input": {"a": 1}, "output": {"b": 2}}, "rft", [user('Add.\n\n{"a": 1}')], '{"b": 2}'),
        ({"instruction": "Add.", "input": [1, 2], "output": 3}, "alpaca", [user("Add.\n\n[1, 2]")], "3"),
        ({"question": "Who?", "context": ["Ann."], "answers": ["Ann"]}, "gsm8k", [user('Who?\n\n["Ann."]')], '["Ann"]'),
        ({"question": "A or B?", "answerKey": "B"}, "gsm8k", [user("A or B?")], "B"),
    ],
)  # fmt: skip
def test_formats(
    tmp_path: Path, row: dict[str, Any], format: str, prompt: object, reference: str | None
) -> None:
    data = read(tmp_path, row)
    (example,) = data.examples
    assert (data.format, example.prompt, reference_of(example)) == (format, prompt, reference)
    assert example.fields == row
    assert read(tmp_path, row, format=format).examples[0].prompt == prompt


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"task": "Add.", "instruction_": "x", "context": "1 2"}, "'context' is not in the prompt"),
        ({"question": "Who?", "choices": ["a", "b"]}, "'choices' is not in the prompt"),
        ({"question": "Who?", "context": "Ann."}, "'context' is in the prompt, after the question"),
        ({"prompt": "Hi", "system": "S"}, "'system' is not in the prompt"),
        ({"question": "Hi", "system": "S"}, "'system' is read as the system message"),
        ({"messages": [user("Hi")], "system": "S"}, "'system' is read as the system message"),
        ({"messages": [system("T"), user("Hi")], "system": "S"}, "'system' is not in the prompt, which has"),
        (
            {"messages": [user("Hi")], "images": ["a.png"]},
            "'images' is not in the prompt: models are trained on text",
        ),
        ({"prompt": "Hi", "image": "a.png"}, "'image' is not in the prompt: models are trained on text"),
        ({"task": "Add.", "input": {"a": 1}}, "'input' is an object: it is in the prompt as JSON"),
        ({"question": "Who?", "context": ["Ann."]}, "'context' is a list: it is in the prompt as JSON"),
        ({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}, "messages have 'parts'"),
        (
            {"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Hi"}]},
            "messages have 'from' and 'value'",
        ),
        ({"conversations": [{"from": "human", "value": "Hi"}]}, "messages have 'from' and 'value'"),
        ({"messages": [{**user("Hi"), "weight": 1}]}, "'weight' of messages is left out"),
        ({"messages": [user("Hi"), assistant("Ho")]}, "the conversation ends with an assistant turn"),
        ({"prompt": [user("Hi"), assistant("Ho")]}, "it is the beginning of the completion"),
        ({"prompt": [user("Hi"), assistant(" ")]}, "ends with an empty assistant turn: it is left out"),
        ({"prompt": "Hi", "tools": ["hammer"]}, "'tools' holds no definitions of tools"),
        ({"prompt": "Hi", "tools": [{"name": "f"}]}, "'tools' is put into the form"),
        ({"prompt": json.dumps([user("Hi")])}, "'prompt' is a list written as text"),
    ],
)
def test_what_is_not_read_as_it_stands_is_said_once_with_the_first_row(
    tmp_path: Path, row: dict[str, Any], said: str
) -> None:
    remarks = read(tmp_path, row, row, row).remarks
    assert any(
        remark.startswith(f"{tmp_path}/x.jsonl:1 (and 2 more rows): ") and said in remark
        for remark in remarks
    )
    assert len(remarks) == len(set(remarks)) <= 2


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "input": "b", "output": "c"},
        {"prompt": "a", "instruction": "b"},
        {"task": "t", "instruction": "b"},
    ],
)
def test_two_formats_in_one_row_are_not_guessed(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(UsageErrors, match="fits two formats"):
        read(tmp_path, row)


def test_calls_in_sharegpt(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "Rain?"},
        {"from": "function_call", "value": '{"name": "rain", "arguments": {"city": "Oslo"}}'},
        {"from": "observation", "value": "yes"},
        {"from": "gpt", "value": "It rains."},
    ]
    (example,) = read(tmp_path, {"conversations": turns}).examples
    call = {"type": "function", "function": {"name": "rain", "arguments": {"city": "Oslo"}}}
    assert example.prompt == [
        user("Rain?"), {**assistant(""), "tool_calls": [call]}, {"role": "tool", "content": "yes"},
    ]  # fmt: skip
    assert reference_of(example) == "It rains."


def test_the_documented_rows_are_read_as_the_table_says(tmp_path: Path) -> None:
    """docs/data.md: a row of each format, in the order of its table."""
    page = (ROOT / "docs" / "data.md").read_text()
    rows = [json.loads(line) for line in page.partition("```jsonl\n")[2].partition("```")[0].splitlines()]
    table = re.findall(r"^\| `(\w+)` \| `", page.partition("## Formats")[2], re.MULTILINE)[: len(FORMATS)]
    assert table == list(FORMATS)
    found = [read(tmp_path, row) for row in rows]
    assert [data.format for data in found] == table
    assert [reference_of(data.examples[0]) for data in found] == ["3"] * len(rows)
    order = page.partition("looked for in this order: ")[2].partition(", a last assistant turn")[0]
    assert re.findall(r"`([\w.]+)`", order) == [
        "output",
        "answer",
        "reward_model.ground_truth",
        *REFERENCE_KEYS,
    ]
