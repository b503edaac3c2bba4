"""Rows to examples: formats, columns, references, and the message for every row that has no prompt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rft_cli.config.keys import all_keys
from rft_cli.data.dataset import Dataset, read_examples
from rft_cli.data.references import reference_of, solution_of
from rft_cli.data.row_formats import FORMATS
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.types import Example, Source

ROOT = Path(__file__).parents[2]


def write(folder: Path, *rows: dict[str, Any] | str, name: str = "x.jsonl") -> str:
    file = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def read_one(folder: Path, row: dict[str, Any], **options: Any) -> tuple[Dataset, Example]:
    dataset = read_examples(write(folder, row), **options)
    (example,) = dataset.examples
    return dataset, example


def problems_of(folder: Path, *rows: dict[str, Any] | str, **options: Any) -> list[str]:
    """The messages without the folder."""
    with pytest.raises(UsageErrors) as caught:
        read_examples(write(folder, *rows), **options)
    return [problem.message.replace(f"{folder}/", "") for problem in caught.value.problems]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("row", "format", "prompt", "reference"),
    [
        ({"task": "Add.", "input": "1+1", "output": "2"}, "rft", user("Add.\n\n1+1"), "2"),
        ({"task": "Write a poem."}, "rft", user("Write a poem."), None),
        ({"input": "1+1", "output": {"n": 2}}, "rft", user("1+1"), '{"n": 2}'),
        ({"task": "Add.", "input": "", "output": "2"}, "rft", user("Add."), "2"),
        ({"task": "Add.", "input": None, "output": "2"}, "rft", user("Add."), "2"),
        ({"messages": user("Hi"), "reference_answer": "Ho"}, "openai", user("Hi"), "Ho"),
        ({"messages": user("Hi"), "task": "greet", "input": 3, "output": "Ho"}, "openai", user("Hi"), "Ho"),
        ({"prompt": "The sky is", "color": "blue"}, "trl", "The sky is", None),
        ({"prompt": user("Hi"), "ground_truth": "Ho"}, "trl", user("Hi"), "Ho"),
        ({"prompt": "Hi", "answer": "Ho", "question": "Hi"}, "trl", "Hi", "Ho"),
        ({"question": "2+2?", "answer": "2+2=4\n#### 4"}, "gsm8k", user("2+2?"), "4"),
        ({"question": "2+2?", "answer": "4"}, "gsm8k", user("2+2?"), "4"),
        ({"question": "2+2?"}, "gsm8k", user("2+2?"), None),
        (
            {
                "prompt": user("2+2?"),
                "data_source": "m",
                "reward_model": {"style": "rule", "ground_truth": 4},
            },
            "verl",
            user("2+2?"),
            "4",
        ),
        ({"prompt": "2+2?", "reward_model": {"ground_truth": "4"}}, "trl", "2+2?", "4"),
    ],
)
def test_formats(
    tmp_path: Path, row: dict[str, Any], format: str, prompt: object, reference: str | None
) -> None:
    dataset, example = read_one(tmp_path, row)
    assert dataset.format == format
    assert dataset.notes == [f"{tmp_path}/x.jsonl: detected: {format} (1 of 1 rows)"]
    assert example.prompt == prompt
    assert example.fields == row
    assert example.source == Source(f"{tmp_path}/x.jsonl", 1)
    assert reference_of(example) == reference


def test_the_format_given_is_taken_without_a_note(tmp_path: Path) -> None:
    row = {"prompt": "A", "input": "B", "output": "C"}
    dataset, example = read_one(tmp_path, row, format="rft")
    assert (dataset.format, dataset.notes, example.prompt) == ("rft", [], user("B"))
    assert read_one(tmp_path, row, format="trl")[1].prompt == "A"


def test_the_schema_knows_the_same_formats() -> None:
    assert sorted(all_keys()["data.format"].words()) == sorted(["auto", *FORMATS])


def test_fields_are_the_row_unchanged(tmp_path: Path) -> None:
    dataset = read_examples(
        write(tmp_path, '{"task": "t", "code": "007"}', '{"task": "t", "code": 7, "id": 12, "extra": null}')
    )
    first, second = dataset.examples
    assert first.fields == {"task": "t", "code": "007"}
    assert second.fields == {"task": "t", "code": 7, "id": 12, "extra": None}


@pytest.mark.parametrize(
    ("own", "expected"),
    [("a-1", "a-1"), (12, "12"), (True, "line-1"), ("", "line-1"), (None, "line-1"), ([], "line-1")],
)
def test_ids(tmp_path: Path, own: object, expected: str) -> None:
    assert read_one(tmp_path, {"task": "t", "id": own})[1].id == expected


def test_ids_count_blank_lines(tmp_path: Path) -> None:
    dataset = read_examples(write(tmp_path, '{"task": "a"}', "", '{"task": "b"}'))
    assert [example.id for example in dataset.examples] == ["line-1", "line-3"]


def test_a_last_assistant_turn_is_dropped_and_noted(tmp_path: Path) -> None:
    turns = [*user("Hi"), {"role": "assistant", "content": "Ho"}]
    dataset = read_examples(write(tmp_path, {"messages": turns}, {"messages": user("Hey")}))
    assert dataset.remarks == [
        f"{tmp_path}/x.jsonl:1: the conversation ends with an assistant turn: it is left out of the prompt (the grader "
        "still sees it)",
    ]
    assert dataset.examples[0].prompt == user("Hi")
    assert dataset.examples[0].fields == {"messages": turns}
    assert reference_of(dataset.examples[0]) == "Ho"


def test_messages_with_text_parts_and_roles(tmp_path: Path) -> None:
    row = {
        "messages": [
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"role": "assistant", "content": ""},
            {"role": "tool", "content": "42", "tool_call_id": "1"},
        ]
    }
    assert read_one(tmp_path, row)[1].prompt == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": ""},
        {"role": "tool", "content": "42", "tool_call_id": "1"},
    ]


def test_a_system_message_goes_where_there_is_none(tmp_path: Path) -> None:
    system = {"role": "system", "content": "S"}
    own = {"role": "system", "content": "own"}
    path = write(tmp_path, {"prompt": "a"}, {"prompt": user("b")}, {"prompt": [own, *user("c")]})
    prompts = [example.prompt for example in read_examples(path, system="S").examples]
    assert prompts == ["a", [system, *user("b")], [own, *user("c")]]
    asked = [example.asked() for example in read_examples(path, system="S").examples]
    assert asked == [[system, *user("a")], [system, *user("b")], [own, *user("c")]]


def test_columns(tmp_path: Path) -> None:
    row = {"frage": "2+2?", "antwort": "4", "prompt": "not this one"}
    columns = {"question": "frage", "answer": "antwort"}
    dataset, example = read_one(tmp_path, row, columns=columns)
    assert (dataset.format, example.prompt) == ("gsm8k", user("2+2?"))
    assert reference_of(example, columns) == "4"
    assert example.fields == row


def test_columns_rename_a_prompt(tmp_path: Path) -> None:
    row = {"question": "Why?", "answer": "Because"}
    dataset, example = read_one(tmp_path, row, columns={"prompt": "question"})
    assert (dataset.format, example.prompt) == ("trl", "Why?")


def test_columns_that_no_row_has(tmp_path: Path) -> None:
    with pytest.raises(UsageErrors) as caught:
        read_examples(write(tmp_path, {"text": "a"}), columns={"prompt": "txet"})
    (problem,) = caught.value.problems
    assert (
        problem.message == f"{tmp_path}/x.jsonl: no row has the key 'txet', which data.columns.prompt names"
    )
    assert problem.fix == "did you mean 'text'?"


def test_columns_with_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(UsageErrors) as caught:
        read_examples(write(tmp_path, {"task": "a"}), columns={"promt": "task", "zzz": "task"})
    assert [(problem.message, problem.fix) for problem in caught.value.problems] == [
        ("data.columns: unknown name 'promt'", "did you mean 'prompt'?"),
        (
            "data.columns: unknown name 'zzz'",
            "known names: prompt, messages, task, input, output, question, answer, instruction, context, "
            "problem, query, conversations, system, tools",
        ),
    ]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_examples(str(file))
    assert caught.value.message == f"{file}: the file has no rows"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"task": 5}, "'task' must be text, not a number"),
        ({"task": ["a"]}, "'task' must be text, not a list"),
        ({"task": " ", "input": ""}, "'task' and 'input' are empty"),
        ({"task": None}, "'task' is null"),
        ({"prompt": 5}, "'prompt' must be text or a list of messages, not a number"),
        ({"prompt": {"role": "user"}}, "'prompt' must be text or a list of messages, not an object"),
        ({"prompt": "  "}, "'prompt' is empty"),
        ({"prompt": None}, "'prompt' is null"),
        ({"prompt": []}, "'prompt' is an empty list"),
        ({"prompt": ["hi"]}, "prompt[0] must be an object with role and content, not a string"),
        ({"question": 5}, "'question' must be text, not a number"),
        ({"messages": "hi"}, "'messages' must be a list of messages, not a string"),
        ({"messages": [{"role": "user"}]}, "messages[0] has no 'content': it has the key 'role'"),
        ({"messages": [{}]}, "messages[0] has no 'role' and 'content': it has no keys"),
        (
            {"messages": [{"role": "narrator", "content": "a"}]},
            "messages[0].role must be one of system, developer, user, assistant, tool, not 'narrator'",
        ),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "messages[0].role must be one of system,"),
        ({"messages": [{"role": "user", "content": 5}]}, "'messages[0].content' must be text, not a number"),
        ({"messages": [{"role": "user", "content": ""}]}, "'messages[0].content' is empty"),
        ({"messages": [{"role": "user", "content": None}]}, "'messages[0].content' must be text, not null"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            "messages[0].content[0] is not text",
        ),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "messages[0].content[0] is not text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "'messages[0].content[0].text' must be text, not null",
        ),
        (
            {"messages": [*user("a"), {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}]},
            "messages[1].tool_calls[0] must be a call of a tool",
        ),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "'messages' has no user message"),
        ({"messages": [{"role": "system", "content": "a"}]}, "'messages' has no user message"),
        (
            {"messages": [*user("a"), {"role": "system", "content": "b"}]},
            "'messages' must end with a user turn, not system",
        ),
    ],
)
def test_rows_without_a_usable_prompt(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    (problem,) = problems_of(tmp_path, row)
    assert problem.startswith(f"x.jsonl:1: {message}")


def test_no_row_has_a_known_key(tmp_path: Path) -> None:
    rows = [{"promt": "a", **{f"key{n}": n for n in range(9)}}, {"text": "b"}]
    with pytest.raises(UsageErrors) as caught:
        read_examples(write(tmp_path, *rows))
    (problem,) = caught.value.problems
    assert problem.message == (
        f"{tmp_path}/x.jsonl:1: no prompt: the row has the keys 'promt', 'key0', 'key1', 'key2', 'key3', 'key4', "
        "'key5', 'key6' and 2 more; 'promt' looks like 'prompt'"
    )
    assert problem.fix == "rename it, or: --set data.columns.prompt=promt"


def test_one_row_of_another_kind_is_named(tmp_path: Path) -> None:
    rows = [{"task": "a"}, {"tsak": "b"}, {"prompt": "c"}, {"task": "d"}]
    assert problems_of(tmp_path, *rows) == [
        "x.jsonl:2: no prompt: the rft format takes it from 'task' or 'input', the row has the key 'tsak'; "
        "'tsak' looks like 'task'",
        "x.jsonl:3: no prompt: the rft format takes it from 'task' or 'input', the row has the key 'prompt'",
    ]


def test_rows_of_another_format_are_sent_to_a_file_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(UsageErrors) as caught:
        read_examples(write(tmp_path, {"question": "a"}, {"messages": user("b")}, {"question": "c"}))
    (problem,) = caught.value.problems
    assert problem.fix == "put rows of the openai format into a file of their own: several may be given"


@pytest.mark.parametrize("key", ["user", "source", "text", "assistant"])
def test_a_key_that_is_no_misspelling_gets_no_guess(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageErrors) as caught:
        read_examples(write(tmp_path, {key: "a"}))
    (problem,) = caught.value.problems
    assert "looks like" not in problem.message
    assert "--set data.columns.prompt=KEY" in str(problem.fix)


def test_verl_rows_need_a_ground_truth(tmp_path: Path) -> None:
    good = {"prompt": user("a"), "reward_model": {"ground_truth": "b"}}
    bad = {"prompt": user("a"), "reward_model": "b"}
    assert problems_of(tmp_path, good, good, bad) == [
        "x.jsonl:3: no 'reward_model.ground_truth', which the verl format has"
    ]


def test_a_row_that_fits_two_formats(tmp_path: Path) -> None:
    row = {"prompt": "a", "input": "b", "output": "c"}
    assert problems_of(tmp_path, row) == [
        "x.jsonl:1: the row fits two formats: trl ('prompt') and rft ('input', 'output')"
    ]


def test_all_problems_of_a_file_at_once_in_order(tmp_path: Path) -> None:
    assert problems_of(tmp_path, {"task": 1}, "oops", {"task": "a"}, {"task": ""}, '{"task": NaN}') == [
        "x.jsonl:1: 'task' must be text, not a number",
        "x.jsonl:2:1: not valid JSON: expecting value",
        "x.jsonl:4: 'task' is empty",
        "x.jsonl:5:10: NaN is not JSON",
    ]


def test_only_bad_lines(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "oops") == ["x.jsonl:1:1: not valid JSON: expecting value"]


def test_a_thousand_bad_rows_are_a_short_message(tmp_path: Path) -> None:
    messages = problems_of(tmp_path, *[{"task": n} for n in range(1000)])
    assert len(messages) == 21
    assert messages[-1] == "x.jsonl: and 980 more problems"


def example_of(fields: dict[str, Any]) -> Example:
    return Example("line-1", "p", fields, Source("x.jsonl", 1))


@pytest.mark.parametrize(
    ("fields", "reference", "solution"),
    [
        ({}, None, None),
        ({"answer": "2+2=4\n#### 4\n"}, "4", "2+2=4\n#### 4\n"),
        ({"output": "# Title\n#### Sub\ntext"}, "# Title\n#### Sub\ntext", "# Title\n#### Sub\ntext"),
        ({"answer": ["4", "four"]}, '["4", "four"]', '["4", "four"]'),
        ({"label": "ä"}, "ä", "ä"),
        ({"reward_model": {"ground_truth": None}, "target": 0}, "0", "0"),
        ({"reward_model": "x", "messages": []}, None, None),
        ({"messages": "x"}, None, None),
        ({"messages": ["x"]}, None, None),
        ({"messages": [{"role": "assistant", "content": 5}]}, None, None),
        ({"messages": [{"role": "assistant", "content": [{"type": "text", "text": "a"}]}]}, "a", "a"),
    ],
)
def test_references(fields: dict[str, Any], reference: str | None, solution: str | None) -> None:
    assert reference_of(example_of(fields)) == reference
    assert solution_of(example_of(fields)) == solution


def test_the_sample_files_are_clean() -> None:
    for name, rows in (("train", 48), ("val", 200), ("test", 200)):
        dataset = read_examples(str(ROOT / "sample_data" / f"{name}.jsonl"))
        assert dataset.format == "rft"
        assert len(dataset.examples) >= rows
        assert all(reference_of(example) for example in dataset.examples)


def test_standard_input(tmp_path: Path) -> None:
    read = "from rft_cli.data.dataset import read_examples\n"
    program = f"{read}d = read_examples('-')\nprint(d.path, d.examples[0].source)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=b'{"task": "a"}\n', capture_output=True, check=True)
    assert done.stdout.decode().split() == ["-", "stdin:1"]


def test_reading_loads_no_torch() -> None:
    program = (
        "import sys, rft_cli.data, rft_cli.config.load\nprint('torch' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().split() == ["False", "False"]
