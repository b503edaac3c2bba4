from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rft_cli.data.json_line import parse_line
from rft_cli.grading.rows import graded_line
from rft_cli.types import Grade, GradeError

GRADE = Grade("graded", 0.5, {"a": 1.0})
ADDED = '"grade": {"status": "graded", "reward": 0.5, "components": {"a": 1.0}, "error": null}}\n'


def graded(text: str, grade: Grade = GRADE) -> str:
    return graded_line(parse_line(text.rstrip("\r").encode(), "x.jsonl", 1), grade).decode()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"completion": "x"}', '{"completion": "x", '),
        ('  {"a":1.0,"b":1e3,"c":0.10}\r', '{"a":1.0,"b":1e3,"c":0.10, '),
        ('{"u": "\\u00e9é\u2028", "big": 123456789012345678901234567890 } ', None),
        ("{}", "{"),
        ("{ }", "{"),
        ('{"grade": 1, "a": 1.00}', '{"a": 1.0, '),
        ('{"a": [1, {"grade": 2}] , "\\u0067rade" : {"x": "}"} , "b":{"y":"\\"}"}}', None),
        ('{"grade": {"x": [1]}}', "{"),
    ],
)
def test_the_row_keeps_its_text(text: str, kept: str | None) -> None:
    row = json.loads(text)
    line = graded(text)
    if kept is not None:
        assert line == kept + ADDED
    made = json.loads(line)
    assert list(made) == [key for key in row if key != "grade"] + ["grade"]
    assert {**row, "grade": made["grade"]} == made


def test_any_error_message_is_written_as_utf8() -> None:
    grade = Grade("failed", error=GradeError("raised", 'half \ud800 "quoted"\n\x00 世'))
    line = graded("{}", grade)
    assert json.loads(line)["grade"]["error"]["message"] == 'half \ud800 "quoted"\n\x00 世'
    assert line.count("\n") == 1


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["grade", "a", "", "}", '"', "grade "]), VALUES),
    st.booleans(),
    st.booleans(),
)
def test_any_row(row: dict[str, object], ascii_only: bool, spaced: bool) -> None:
    text = json.dumps(
        row, ensure_ascii=ascii_only, indent=None, separators=(" , ", " : ") if spaced else (",", ":")
    )
    made = json.loads(graded(text))
    assert made.pop("grade")["reward"] == 0.5
    row.pop("grade", None)
    assert made == row
