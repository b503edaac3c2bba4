"""The line reader: what it accepts, and the exact place and reason of everything it refuses."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rft_cli.data.json_line import Row
from rft_cli.data.problems import Problems
from rft_cli.data.rows import RowReader, read_rows
from rft_cli.errors import UsageError, UsageErrors


def rows_of(content: bytes) -> list[Row]:
    return list(RowReader(io.BytesIO(content), "x.jsonl"))


def problem_of(line: bytes) -> UsageError:
    (row,) = rows_of(line)
    assert row.value is None
    assert row.problem is not None
    return row.problem


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": 1}\n{"a": 2}\n', [(1, {"a": 1}), (2, {"a": 2})]),
        (b'{"a": 1}', [(1, {"a": 1})]),
        (b'\xef\xbb\xbf{"a": 1}\n', [(1, {"a": 1})]),
        (b'{"a": 1}\r\n{"a": 2}\r\n', [(1, {"a": 1}), (2, {"a": 2})]),
        (b'\n  \n{"a": 1}\n\n\r\n{"a": 2}\n\n', [(3, {"a": 1}), (6, {"a": 2})]),
        ('{"a": "x\u2028y\u2029z\x85"}\n'.encode(), [(1, {"a": "x\u2028y\u2029z\x85"})]),
        (b'  {"a": 1}  \n', [(1, {"a": 1})]),
        (b'{"a": "\\ud83d\\ude00"}\n', [(1, {"a": "\U0001f600"})]),
        (b'{"a": "\\\\ud800 is only text"}\n', [(1, {"a": "\\ud800 is only text"})]),
        (b'{"a": "NaN", "b": "Infinity"}', [(1, {"a": "NaN", "b": "Infinity"})]),
        (b'{"a": 1}\n\xef\xbb\xbf', [(1, {"a": 1})]),
        (b"", []),
        (b"\xef\xbb\xbf", []),
    ],
    ids=[
        "plain",
        "no newline at the end",
        "byte order mark",
        "CRLF",
        "blank lines are counted",
        "line separators inside strings",
        "white space",
        "surrogate pair",
        "escaped backslash",
        "NaN as text",
        "mark at the end",
        "empty",
        "only a mark",
    ],
)
def test_accepts(content: bytes, expected: list[tuple[int, dict[str, Any]]]) -> None:
    rows = [row for row in rows_of(content) if row.value is not None]
    assert [(row.line, row.value) for row in rows] == expected


def test_values_keep_their_types() -> None:
    line = b'{"a": "007", "b": 4, "c": 4.0, "d": true, "e": null, "f": [1, "1"], "g": {"h": 12345678901234567890}}'
    (row,) = rows_of(line)
    assert row.value is not None
    assert row.value == json.loads(line)
    assert [type(value) for value in row.value.values()] == [str, int, float, bool, type(None), list, dict]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": }', "x.jsonl:1:7: not valid JSON: a comma before the closing bracket, or a missing value"),
        (b'{"a": 1,}', "x.jsonl:1:9: not valid JSON: a comma before the closing bracket, or a missing value"),
        (b'{"a": 1', "x.jsonl:1:8: not valid JSON: the line ends too early"),
        (b'{"a": "b', "x.jsonl:1:7: not valid JSON: this string has no closing quote "),
        (b"{'a': 1}", "x.jsonl:1:2: not valid JSON: strings and keys take double quotes"),
        (
            b'{"a": 1} {"b": 2}',
            "x.jsonl:1:10: not valid JSON: something follows the object (one object a line)",
        ),
        (b'{"a" 1}', "x.jsonl:1:6: not valid JSON: expecting ':' delimiter"),
        (b'{"a": "x\x00y"}', "x.jsonl:1:9: not valid JSON: the character U+0000 is unescaped in a string"),
        ('{"ä": 1'.encode(), "x.jsonl:1:8: not valid JSON: the line ends too early"),
        (b"hello", "x.jsonl:1:1: not valid JSON: expecting value"),
        (b'"text"', "x.jsonl:1: a string, but a row must be an object"),
        (b"null", "x.jsonl:1: null, but a row must be an object"),
        (b"true", "x.jsonl:1: a boolean, but a row must be an object"),
        (b"-3.5", "x.jsonl:1: a number, but a row must be an object"),
        (b'{"a": NaN}', "x.jsonl:1:7: NaN is not JSON"),
        (b'{"a": "NaN", "b": -Infinity}', "x.jsonl:1:19: -Infinity is not JSON"),
        (b'{"a": 1e999}', "x.jsonl:1:7: the number 1e999 is too large"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', 'x.jsonl:1:24: the key "c" is twice in one object'),
        (b'{"a": {}, "a": NaN, "a": 1}', 'x.jsonl:1:11: the key "a" is twice in one object'),
        (b'{"a": [1, NaN], "a": 2}', "x.jsonl:1:11: NaN is not JSON"),
        (b'{"a": 1, "a": 2, "b": 1e999}', 'x.jsonl:1:10: the key "a" is twice in one object'),
        (b'{"a": "1e999 NaN", "b": [1, -1e999]}', "x.jsonl:1:29: the number -1e999 is too large"),
        (b'{"a": 1e-400}', "x.jsonl:1:7: the number 1e-400 is too small for a 64-bit float"),
        (b'{"a": 1e-99999999999999999999}', "x.jsonl:1:7: the number 1e-99999999999999999999 is too small"),
        (b'{"a": 3.14159265358979323846}', "x.jsonl:1:7: the number 3.14159265358979323846 has more digits"),
        (b'{"a": 0.' + b"1" * 1200 + b"}", "x.jsonl:1:7: the number 0.1111"),
        (b'{"a": 1}\x00\x00', "x.jsonl:1:9: not valid JSON: a NUL byte: the file may be damaged"),
        (b"\x00\x00\x00", "x.jsonl:1:1: not valid JSON: a NUL byte: the file may be damaged"),
        (b'{"a": ' + b"9" * 5000 + b"}", "x.jsonl:1:7: an integer with too many digits"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "x.jsonl:1:106: nested deeper than 100 levels"),
        (b'{"a": ' + b"[" * 100_000, "x.jsonl:1:106: nested deeper than 100 levels"),
        (b'{"a": ' * 100_000, "x.jsonl:1:601: nested deeper than 100 levels"),
        (b'{"a": "\xff"}', "x.jsonl:1:8: byte 0xff is not valid UTF-8"),
        ('{"ä": "'.encode() + b'\xe4"}', "x.jsonl:1:8: byte 0xe4 is not valid UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "x.jsonl:1:8: byte 0xed is not valid UTF-8"),
        (b'{"a": "\\ud800"}', "x.jsonl:1:7: a string holds half of a surrogate pair"),
        (b'{"a": {"b": [0, "\\uDC00"]}}', "x.jsonl:1:17: a string holds half of a surrogate pair"),
        (b'{"\\ud800": 1}', "x.jsonl:1:2: a key holds half of a surrogate pair"),
        (b'{"a": {"\\ud800": 1}}', "x.jsonl:1:8: a key holds half of a surrogate pair"),
    ],
)
def test_refuses(line: bytes, message: str) -> None:
    assert problem_of(line).message.startswith(message)


def test_depth_counts_brackets_outside_strings_only() -> None:
    (row,) = rows_of(b'{"a": "' + b"[" * 500 + b'\\"{{{", "b": ' + b"[" * 99 + b"]" * 99 + b"}")
    assert row.problem is None


def test_a_line_after_a_bad_line_is_read() -> None:
    rows = rows_of(b'{"a": 1}\noops\n\n{"a": 2}\n')
    assert [(row.line, row.value) for row in rows] == [(1, {"a": 1}), (2, None), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("content", "message", "fix"),
    [
        (b'[{"a": 1}]', "x.jsonl:1: the file is a JSON list, not JSON lines", "jq -c '.[]' x.jsonl"),
        (b'[\n{"a": 1}\n]', "x.jsonl:1: the file is a JSON list, not JSON lines", "jq -c '.[]' x.jsonl"),
        (b'{\n  "a": 1\n}\n', "x.jsonl:1: the object goes over several lines", "jq -c . x.jsonl"),
        (b"\x1f\x8b\x08\x00", "x.jsonl: is gzip-compressed", "gunzip -k x.jsonl"),
        (b"PAR1\x15", "x.jsonl: is a Parquet file, not JSON lines", "give it a name that ends in .parquet"),
        (b"PK\x03\x04", "x.jsonl: is a zip archive, not JSON lines", "unpack"),
        ('{"a": 1}'.encode("utf-16"), "x.jsonl: is UTF-16, not UTF-8", "iconv -f UTF-16 -t UTF-8 x.jsonl"),
    ],
)
def test_another_kind_of_file_is_one_message(content: bytes, message: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        rows_of(content)
    assert caught.value.message == message
    assert fix in str(caught.value.fix)


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        (b'[{"a": 1}]', "jq -c '.[]'"),
        (b"{\n", "jq -c ."),
        (b"\x1f\x8b\x08", "gunzip"),
        (b"\xff\xfe", "iconv -f UTF-16 -t UTF-8"),
    ],
)
def test_what_comes_through_a_pipe_is_mended_in_the_pipe(content: bytes, fix: str) -> None:
    """There is no file of the name stdin."""
    with pytest.raises(UsageError) as caught:
        list(RowReader(io.BytesIO(content), "stdin"))
    assert str(caught.value.fix).endswith(f": ... | {fix} | rft ...")


def test_sha256_is_that_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n')
    rows = read_rows(str(file))
    assert len(list(rows)) == 1
    expected = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout.split()[
        0
    ]
    assert rows.sha256 == expected


def test_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(UsageError) as caught:
        read_rows(str(tmp_path / "trian.jsonl"))
    assert caught.value.message == f"{tmp_path}/trian.jsonl: no such file"
    assert caught.value.fix == f"did you mean '{tmp_path}/train.jsonl'?"


def test_missing_file_without_neighbour(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_rows(str(tmp_path / "a.jsonl"))
    assert caught.value.fix == "check the path"


def test_missing_file_in_a_folder_that_can_not_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "train.jsonl").touch()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UsageError) as caught:
        read_rows(str(tmp_path / "trian.jsonl"))
    assert caught.value.fix == "check the path"


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_rows(str(tmp_path / "no" / "a.jsonl"))
    assert caught.value.fix == f"there is no folder {tmp_path}/no either"


def test_directory_and_impossible_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"):
        read_rows(str(tmp_path))
    with pytest.raises(UsageError, match="can't be opened: embedded null byte"):
        read_rows("a\x00b")
    with pytest.raises(UsageError, match="can't be opened: File name too long"):
        read_rows("a" * 5000)


def test_an_error_while_reading_names_the_file() -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise OSError(5, "Input/output error")

    with pytest.raises(UsageError, match=r"^x\.jsonl: can't be read: Input/output error$"):
        list(RowReader(io.BufferedReader(Broken()), "x.jsonl"))


def test_standard_input_in_a_real_process() -> None:
    program = (
        "from rft_cli.data.rows import read_rows\nfor r in read_rows('-'): print(r.line, r.value, r.problem)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=b'{"a": 1}\nx\n', capture_output=True, check=True
    )
    first, second = done.stdout.decode().splitlines()
    assert first == "1 {'a': 1} None"
    assert second == "2 None stdin:2:1: not valid JSON: expecting value"


def test_many_problems_are_cut_and_counted() -> None:
    problems = Problems("x.jsonl")
    for line in range(1000, 0, -1):
        problems.add(UsageError(f"x.jsonl:{line}: bad"), line)
    with pytest.raises(UsageErrors) as caught:
        problems.raise_any()
    messages = [problem.message for problem in caught.value.problems]
    assert messages == [f"x.jsonl:{line}: bad" for line in range(1, 21)] + ["x.jsonl: and 980 more problems"]


def test_twenty_one_problems_leave_one() -> None:
    problems = Problems("x.jsonl")
    for line in range(1, 22):
        problems.add(UsageError(f"x.jsonl:{line}: bad"), line)
    assert problems.error().problems[-1].message == "x.jsonl: and 1 more problem"


def test_no_problem_raises_nothing() -> None:
    Problems("x.jsonl").raise_any()


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON_VALUES, max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.lists(OBJECTS, min_size=1, max_size=5), st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_whatever_json_writes_is_read_back(objects: list[dict[str, Any]], ascii: bool, end: str) -> None:
    lines = [json.dumps(item, ensure_ascii=ascii) for item in objects]
    rows = rows_of(end.join(lines).encode("utf-8", "surrogatepass"))
    for row, item in zip(rows, objects, strict=True):
        # Inner keys may hold lone surrogates: then the row is refused, and otherwise it is the object itself.
        assert row.value == item if row.problem is None else "surrogate" in row.problem.message or not ascii


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_end_in_rows_or_usage_errors(content: bytes) -> None:
    reader = iter(RowReader(io.BytesIO(content), "x.jsonl"))
    with contextlib.suppress(UsageError):
        for row in reader:
            assert (row.value is None) != (row.problem is None)
            if row.problem is not None:
                assert row.problem.message.startswith(f"x.jsonl:{row.line}:")


@settings(max_examples=300, deadline=None)
@given(OBJECTS, st.data())
def test_a_damaged_line_never_escapes(item: dict[str, Any], data: st.DataObject) -> None:
    line = bytearray(json.dumps(item).encode())
    position = data.draw(st.integers(0, len(line) - 1))
    line[position] = data.draw(st.integers(0, 255))
    for row in rows_of(b"{}\n" + bytes(line)):
        assert (row.value is None) != (row.problem is None)
        if row.value is not None:
            json.dumps(row.value, ensure_ascii=False, allow_nan=False).encode("utf-8")
