"""Rows in CSV, TSV, Parquet, a JSON list and gzip: types, places, and the message for each that is broken."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from rft_cli.data.dataset import read_examples
from rft_cli.errors import UsageError
from tests.command import ROOT, rft_measured


def fields(file: Path, **options: Any) -> list[dict[str, Any]]:
    return [dict(example.fields) for example in read_examples(str(file), **options).examples]


def refused(file: Path) -> list[str]:
    with pytest.raises(UsageError) as caught:
        read_examples(str(file))
    return [problem.message.replace(f"{file.parent}/", "") for problem in caught.value.problems]


def parquet(file: Path, columns: dict[str, Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file


def test_every_value_of_csv_is_text() -> None:
    assert fields(ROOT / "tests/cases/rows.csv") == [
        {"question": "What is 1 + 2?", "answer": "3"},
        {"question": "What, exactly, is 007?", "answer": "007"},
    ]


def test_csv_keeps_what_was_written_and_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b'\xef\xbb\xbfquestion,answer,x\r\n"two\nlines","1.10",\r\n\r\n"say ""hi""",NA,1e3\r\n')
    examples = read_examples(str(file)).examples
    assert [e.source.line for e in examples] == [2, 5]
    assert [dict(e.fields) for e in examples] == [
        {"question": "two\nlines", "answer": "1.10", "x": ""},
        {"question": 'say "hi"', "answer": "NA", "x": "1e3"},
    ]


def test_other_separators_are_seen_and_said(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("question\tanswer\na, b\t007\n")
    (tmp_path / "x.csv").write_text("question;answer\na, b;007\n")
    assert fields(tmp_path / "x.tsv") == fields(tmp_path / "x.csv") == [{"question": "a, b", "answer": "007"}]
    assert read_examples(str(tmp_path / "x.csv")).remarks == [
        f"{tmp_path}/x.csv: columns are separated by semicolons"
    ]


def test_csv_as_excel_writes_it(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("\ufeffsep=;\r\nquestion;answer\r\nGröße?;007\r\n".encode())
    (example,) = read_examples(str(tmp_path / "x.csv")).examples
    assert (example.fields, example.source.line) == ({"question": "Größe?", "answer": "007"}, 3)


def test_csv_in_another_encoding_is_named_with_its_first_wrong_byte(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("question,answer\na,b\nGröße,1\n".encode("cp1252"))
    with pytest.raises(UsageError, match=r"x.csv:3:3: byte 0xf6 is not valid UTF-8") as caught:
        read_examples(str(tmp_path / "x.csv"))
    assert "iconv -f WINDOWS-1252 -t UTF-8" in str(caught.value.problems[0].fix)


@pytest.mark.parametrize("indent", [None, 2])
def test_rows_in_a_list_inside_of_an_object(tmp_path: Path, indent: int | None) -> None:
    file = tmp_path / "x.json"
    file.write_text(
        json.dumps({"version": "1", "data": [{"question": "a"}, {"question": "b"}]}, indent=indent)
    )
    with pytest.raises(UsageError, match="its rows are the list under 'data'") as caught:
        read_examples(str(file))
    assert "jq -c '.[\"data\"][]' " in str(caught.value.problems[0].fix)
    file.write_text('{"question": "a", "data": [{"x": 1}]}\n{"question": "b", "data": [{"x": 1}]}\n')
    assert len(read_examples(str(file)).examples) == 2


def test_messages_and_tools_in_csv_are_lists_written_as_text(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    turns = [{"role": "user", "content": "Hi"}]
    file.write_text(f'messages\n"{json.dumps(turns).replace(chr(34), chr(34) * 2)}"\n"{turns}"\n')
    data = read_examples(str(file))
    assert [e.prompt for e in data.examples] == [turns, turns]
    assert data.examples[0].fields == {"messages": json.dumps(turns)}
    assert data.remarks == [
        f"{file}:2 (and 1 more row): 'messages' is a list written as text: it is read as the list"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"question,answer\na\nb,1,2\nc,3\n", ["x.csv:2: 1 values", "x.csv:3: 3 values"]),
        (b'question,answer\n"a,1\n', ["x.csv: not valid CSV near line 2"]),
        (b"question,question\na,b\n", ["x.csv:1: the header has 'question' twice"]),
        (b"question\n\xff\n", ["x.csv:2:1: byte 0xff is not valid UTF-8"]),
        (b"", ["x.csv: the file has no rows"]),
        (b"question\n", ["x.csv: the file has no rows"]),
        (b"a,b\n1,2\n", ["x.csv:2: no prompt: the row has the keys 'a', 'b'"]),
    ],
)
def test_broken_csv(tmp_path: Path, content: bytes, message: list[str]) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(content)
    found = refused(file)
    assert len(found) == len(message)
    assert all(said.startswith(start) for said, start in zip(found, message, strict=True))


def test_parquet_keeps_types_and_nested_columns(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}]
    row = {
        "messages": turns,
        "answer": "007",
        "n": 7,
        "x": 1.5,
        "ok": True,
        "meta": {"a": [1, 2]},
        "no": None,
    }
    file = parquet(tmp_path / "x.parquet", {key: [value] for key, value in row.items()})
    assert fields(file) == [row]
    assert read_examples(str(file)).examples[0].prompt == turns


def test_what_json_has_not_is_changed_and_said(tmp_path: Path) -> None:
    columns = {
        "question": ["a", "b"],
        "day": [datetime.date(2026, 1, 2)] * 2,
        "x": [1.0, float("nan")],
        "picture": [{"bytes": b"\x89PNG", "path": "a.png"}] * 2,
        "raw": [b"\xff", b"\x00"],
    }
    data = read_examples(str(parquet(tmp_path / "x.parquet", columns)))
    assert [dict(e.fields) for e in data.examples] == [
        {"question": "a", "day": "2026-01-02", "x": 1.0},
        {"question": "b", "day": "2026-01-02", "x": None},
    ]
    said = [remark.removeprefix(f"{tmp_path}/x.parquet: ") for remark in data.remarks]
    assert said == [
        "'picture' holds bytes: it is left out (from row 1 on)",
        "'raw' holds bytes: it is left out (from row 1 on)",
        "'day' holds values of type date: they are text (from row 1 on)",
        "'x' holds numbers that are not finite (NaN): they are null (from row 2 on)",
    ]


def test_columns_of_tools_have_no_keys_of_other_rows(tmp_path: Path) -> None:
    """Arrow gives every struct the keys of all: what is null is no part of a definition."""
    tools = [[{"name": name, "parameters": {key: {"type": "int"}}}] for name, key in (("a", "x"), ("b", "y"))]
    file = parquet(tmp_path / "x.parquet", {"question": ["1", "2"], "tools": tools})
    assert [e.tools for e in read_examples(str(file)).examples] == [
        [{"type": "function", "function": tool}] for (tool,) in tools
    ]


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text('{"question": "a"}\n')
    (message,) = refused(tmp_path / "x.parquet")
    assert message.startswith("x.parquet: can't be read as Parquet: ")


def test_a_json_list_has_the_lines_on_which_its_items_begin(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('[\n  {"question": "a",\n   "n": 1.10},\n\n  {"question": "b"}\n]\n')
    assert [e.source.line for e in read_examples(str(file)).examples] == [2, 5]
    file.write_text('[{"question": "a"} {"question": "b"}]')
    assert refused(file) == ["x.json:1:20: not a valid JSON list"]
    file.write_text('{"question": "a"}\n{"question": "b"}\n')
    assert len(fields(file)) == 2


def test_gzip(tmp_path: Path) -> None:
    for name, text in (
        ("x.jsonl.gz", '{"question": "a", "answer": "007"}\n'),
        ("x.csv.gz", "question,answer\na,007\n"),
    ):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
        assert fields(tmp_path / name) == [{"question": "a", "answer": "007"}]
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"question": "a"}\n' * 1000)[:-20])
    (message,) = refused(tmp_path / "cut.jsonl.gz")
    assert message.startswith("cut.jsonl.gz: can't be read to its end")


def test_several_files_each_with_its_own_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"task": "a", "output": "1"}\n')
    (tmp_path / "b.csv").write_text("question,answer\nb,2\n")
    names = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.csv")]
    data = read_examples(names)
    assert data.format == "rft, gsm8k"
    assert [str(e.source) for e in data.examples] == [f"{names[0]}:1", f"{names[1]}:2"]
    assert len({e.id for e in data.examples}) == 2
    assert data.notes == [
        f"{names[0]}: detected: rft (1 of 1 rows)",
        f"{names[1]}: detected: gsm8k (1 of 1 rows)",
    ]
    (tmp_path / "a.jsonl").write_text("oops\n")
    with pytest.raises(UsageError) as caught:
        read_examples([*names, str(tmp_path / "no.jsonl")])
    assert [p.message.replace(f"{tmp_path}/", "") for p in caught.value.problems] == [
        "a.jsonl:1:1: not valid JSON: expecting value",
        "no.jsonl: no such file",
    ]
    with pytest.raises(UsageError, match="named twice"):
        read_examples([names[1], names[1]])


def test_a_large_parquet_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """Beside the command itself: the rows as examples, about 1 kB each."""
    rows = 200_000
    few = parquet(tmp_path / "few.parquet", {"question": ["1 + 1?"], "answer": ["2"]})
    texts = [f"What is {n} + {n}? Answer with the number alone." for n in range(rows)]
    many = parquet(tmp_path / "many.parquet", {"question": texts, "answer": list(map(str, range(rows)))})
    small, large = (rft_measured("validate", "-t", str(file), folder=tmp_path) for file in (few, many))
    assert (small.code, large.code) == (0, 0)
    assert large.peak_mb - small.peak_mb < rows * 1.5e-3
