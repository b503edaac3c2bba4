"""Every damaged or odd data file: its values reach the grader as they were written, or file, line and reason are told.

The same tables go through the reader of jobs, on to grader workers, and through the real command.
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rft_cli.config.schema import GraderConfig
from rft_cli.data.dataset import read_examples
from rft_cli.data.rows import RowReader
from rft_cli.errors import UsageError
from rft_cli.grading.open import open_grader
from rft_cli.grading.pool.tasks import Packer
from rft_cli.grading.rows import GradedRows
from rft_cli.grading.worker.messages import item_of
from rft_cli.grading.worker.signature import Binding, Given
from rft_cli.types import GradeRequest
from tests.command import FULL, RFT, environment, rft, rft_measured

pytestmark = pytest.mark.fault("data files")

ECHO = """
def score(completion, example):
    with open(__file__ + ".txt", "a") as file:
        file.write(ascii(example) + "\\n")
    return 1.0
"""
HEAD = b'{"prompt": "p", "completion": "c", "v": '

# What stands in the file after `"v": `, and what the grader gets, by hand.
KEPT: dict[str, tuple[bytes, Any]] = {
    "a number as text": (b'"007"', "007"),
    "a whole number and a float": (b"[1, 1.0, 1e3, 1E-2]", [1, 1.0, 1000.0, 0.01]),
    "floats that are no decimals": (b"[0.1, 0.30000000000000004, 2.2]", [0.1, 0.1 + 0.2, 2.2]),
    "a float printed with 20 digits": (b"0.10000000000000000555", 0.1),
    "a float printed with 17 digits": (b"0.10000000000000001", 0.1),
    "the smallest and the largest float": (
        b"[5e-324, 1.7976931348623157e308]",
        [5e-324, 1.7976931348623157e308],
    ),
    "zeros": (b"[0, -0.0, 0.000, 0e5]", [0, -0.0, 0.0, 0.0]),
    "an integer over 64 bits": (b"123456789012345678901234567890", 123456789012345678901234567890),
    "an integer of 4000 digits": (b"9" * 4000, 10**4000 - 1),
    "the order of keys": (
        b'{"z": 1, "a": 2, "m": {"y": 1, "b": 2}}',
        {"z": 1, "a": 2, "m": {"y": 1, "b": 2}},
    ),
    "nothing": (b"[null, [], {}, true, false]", [None, [], {}, True, False]),
    "an empty key": (b'{"": 1, " ": 2}', {"": 1, " ": 2}),
    "separators in strings": ('"a\u2028b\u2029c\x85d"'.encode(), "a\u2028b\u2029c\x85d"),
    "an escaped NUL": (b'"a\\u0000b"', "a\0b"),
    "escapes": (b'"\\u001b[31m \\r\\n\\t \\/ \\ud83d\\ude00"', "\x1b[31m \r\n\t / \U0001f600"),
    "a surrogate that is only text": (b'"\\\\ud800"', "\\ud800"),
    "a byte order mark in a string": (b'"\xef\xbb\xbfx"', "\ufeffx"),
    "nesting of 90 levels": (b"[" * 90 + b"]" * 90, ast.literal_eval("[" * 90 + "]" * 90)),
    "names of constants": (b'["NaN", "Infinity", "null"]', ["NaN", "Infinity", "null"]),
}
MIXED = (
    b'\xef\xbb\xbf{"prompt": "p", "completion": "c", "v": "text"}\r\n\n \t\r\n'
    b'{"prompt": "p", "completion": "c", "v": {"deep": [1]}, "late": 1}\r\n'
    b'{"prompt": "p", "completion": "c", "v": null, "later": {"x": null}}\n\n'
    b'{"prompt": "p", "completion": "c"}'
)
MIXED_ROWS = [
    {"prompt": "p", "completion": "c", "v": "text"},
    {"prompt": "p", "completion": "c", "v": {"deep": [1]}, "late": 1},
    {"prompt": "p", "completion": "c", "v": None, "later": {"x": None}},
    {"prompt": "p", "completion": "c"},
]

# A line, and how the message on it goes on after the file's name and the line's number.
REFUSED: dict[str, tuple[bytes, str]] = {
    "NaN": (HEAD + b"[1, NaN]}", "45: NaN is not JSON"),
    "minus infinity": (HEAD + b"-Infinity}", "41: -Infinity is not JSON"),
    "too large": (HEAD + b"1e400}", "41: the number 1e400 is too large for a 64-bit float"),
    "too small": (HEAD + b"1e-400}", "41: the number 1e-400 is too small for a 64-bit float"),
    "too precise": (HEAD + b"0.1000000000000000123}", "41: the number 0.1000000000000000123 has more digits"),
    "a long fraction": (HEAD + b"0." + b"3" * 5000 + b"}", "41: the number 0.3333333333333333333333333..."),
    "5000 digits": (HEAD + b"9" * 5000 + b"}", "41: an integer with too many digits (5000)"),
    "a key twice": (HEAD + b'1, "completion": "d"}', '44: the key "completion" is twice in one object'),
    "a key twice inside": (HEAD + b'{"a": 1, "\\u0061": 2}}', '50: the key "a" is twice in one object'),
    "half a pair": (HEAD + b'"\\ud800"}', "41: a string holds half of a surrogate pair"),
    "a pair in the wrong order": (HEAD + b'"\\ude00\\ud83d"}', "41: a string holds half of a surrogate pair"),
    "half a pair in a key": (HEAD + b'{"\\udfff": 1}}', "42: a key holds half of a surrogate pair"),
    "nesting of 100,000": (HEAD + b"[" * 100_000, "140: nested deeper than 100 levels"),
    "objects of 100,000": (HEAD + b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "536: nested deeper than 100 levels"),
    "cut off": (HEAD + b'"abc', "41: not valid JSON: this string has no closing quote"),
    "cut off after a comma": (HEAD + b"1,", "43: not valid JSON: the line ends too early"),
    "cut in a character": (HEAD + "\"é".encode()[:-1], "42: byte 0xc3 is not valid UTF-8"),
    "Latin-1": (HEAD + b'"caf\xe9"}', "45: byte 0xe9 is not valid UTF-8"),
    "a surrogate in UTF-8": (HEAD + b'"\xed\xa0\x80"}', "42: byte 0xed is not valid UTF-8"),
    "a raw NUL": (HEAD + b'"a\x00b"}', "43: not valid JSON: the character U+0000 is unescaped in a string"),
    "a block of zeros": (b"\x00" * 4096, "1: not valid JSON: a NUL byte: the file may be damaged, or not be text"),
    "a raw tab": (HEAD + b'"a\tb"}', "43: not valid JSON: the character U+0009 is unescaped in a string"),
    "old Mac line ends": (HEAD + b"1}\r" + HEAD + b"2}", "44: not valid JSON: something follows the object"),
    "single quotes": (b"{'prompt': 'p'}", "2: not valid JSON: strings and keys take double quotes"),
    "a list": (b'["prompt", "completion"]', " a list, but a row must be an object"),
    "a number": (b"12", " a number, but a row must be an object"),
    "no JSON at all": (b"prompt,completion", "1: not valid JSON: expecting value"),
    "a form feed": (b"\x0c", "1: not valid JSON: expecting value"),
}  # fmt: skip


def echo(folder: Path) -> list[str]:
    """What the scorer was given, in order."""
    file = folder / "echo.py.txt"
    return file.read_text().splitlines() if file.exists() else []


WITH_ROW = Binding("rft", False, positional=(Given("completion"), Given("example")))
"""How score(completion, example) is called."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echo.py").write_text(ECHO)
    return tmp_path


@pytest.mark.parametrize("name", KEPT)
def test_every_reader_keeps_the_value(name: str, folder: Path) -> None:
    text, value = KEPT[name]
    row = repr({"prompt": "p", "completion": "c", "v": value})
    line = HEAD + text + b"}"
    (folder / "x.jsonl").write_bytes(line)
    (example,) = read_examples("x.jsonl").examples
    assert repr(example.fields) == row
    work = Packer(WITH_ROW).pack(0, GradeRequest("c", example.fields))
    assert repr(item_of(work).example) == row


@pytest.mark.parametrize("name", REFUSED)
def test_every_reader_refuses_the_line(name: str) -> None:
    line, reason = REFUSED[name]
    first, row = RowReader(io.BytesIO(b'{"prompt": "p"}\n' + line), "x.jsonl")
    assert first.problem is None
    assert row.value is None
    assert row.problem is not None
    assert row.problem.message.startswith(f"x.jsonl:2:{reason}")


def test_what_is_accepted_reaches_the_grader_through_the_command(folder: Path) -> None:
    (folder / "kept.jsonl").write_bytes(b"".join(HEAD + text + b"}\n" for text, _ in KEPT.values()))
    (folder / "mixed.jsonl").write_bytes(MIXED)
    rows = [*({"prompt": "p", "completion": "c", "v": value} for _, value in KEPT.values()), *MIXED_ROWS]
    done = rft(
        "grade", "--reward-model", "echo.py", "--workers", "1", "kept.jsonl", "mixed.jsonl", folder=folder
    )
    assert done.code == 0, done.err
    assert echo(folder) == [ascii(row) for row in rows]
    written = [line for line in done.stdout.split(b"\n") if line]
    assert [repr(json.loads(line)["v"]) for line in written[: len(KEPT)]] == [
        repr(v) for _, v in KEPT.values()
    ]
    assert written[0].startswith(HEAD + b'"007", "grade": {"status": "graded"')


def test_a_job_gives_the_grader_the_same_rows(folder: Path) -> None:
    # A job that can't be made: what a job does before it samples, and nothing more.
    (folder / "mixed.jsonl").write_bytes(MIXED)
    (folder / "kept.jsonl").write_bytes(b"".join(HEAD + KEPT[name][0] + b"}\n" for name in list(KEPT)[:3]))
    args = ("-t", "mixed.jsonl", "-v", "kept.jsonl", "--reward-model", "echo.py", "--output-dir", "echo.py")
    done = rft("create", *args, "--set", "data.overlap=warn", folder=folder)
    assert done.problems == ["cannot make a run in echo.py"]
    assert done.code == 2
    kept = [{"prompt": "p", "completion": "c", "v": KEPT[name][1]} for name in list(KEPT)[:3]]
    assert set(echo(folder)) == {ascii(row) for row in [*MIXED_ROWS[:3], *kept]}


def test_all_bad_lines_are_told_at_once_with_their_places(folder: Path) -> None:
    lines = [line for line, _ in REFUSED.values()]
    (folder / "a.jsonl").write_bytes(b'{"prompt": "p"}\n\n' + b"\n".join(lines[:20]))
    (folder / "b.jsonl").write_bytes(b'{"prompt": "p"}\n' + b"\n".join([*lines[20:], *[b"x"] * 30]))
    done = rft("validate", "-t", "a.jsonl", "-v", "b.jsonl", "--json", folder=folder)
    assert done.code == 2
    assert "Traceback" not in done.err
    expected = [f"a.jsonl:{n}:{reason}" for n, (_, reason) in enumerate(list(REFUSED.values())[:20], start=3)]
    expected += [
        f"b.jsonl:{n}:{reason}" for n, (_, reason) in enumerate(list(REFUSED.values())[20:], start=2)
    ]
    problems = done.problems
    assert len(problems) == 41
    for found, wanted in zip(problems, expected, strict=False):
        assert found.startswith(wanted)
    assert problems[-1] == f"b.jsonl: and {len(lines) - 20 + 30 - 20} more problems"
    assert [problem["message"] for problem in json.loads(done.stdout)["problems"]] == problems


@pytest.mark.parametrize("name", ["too small", "a key twice", "cut off", "Latin-1", "a block of zeros"])
def test_grade_writes_what_came_before_a_bad_line(name: str, folder: Path) -> None:
    line, reason = REFUSED[name]
    (folder / "x.jsonl").write_bytes(HEAD + b"1}\n" + line)
    done = rft("grade", "--reward-model", "echo.py", "x.jsonl", folder=folder)
    assert done.code == 2
    assert done.stdout.count(b"\n") == 1
    (problem,) = done.problems
    assert problem.startswith(f"x.jsonl:2:{reason}")
    assert "Traceback" not in done.err


ROW = '{"prompt": "p", "completion": "c"}\n'
FILES: dict[str, tuple[bytes, str]] = {
    "gzip": (gzip.compress(ROW.encode()), "x.jsonl: is gzip-compressed"),
    "bzip2": (b"BZh91AY&SY", "x.jsonl: is bzip2-compressed"),
    "xz": (b"\xfd7zXZ\x00\x00", "x.jsonl: is xz-compressed"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04", "x.jsonl: is zstd-compressed"),
    "zip": (b"PK\x03\x04\x14", "x.jsonl: is a zip archive, not JSON lines"),
    "Parquet": (b"PAR1\x15\x04", "x.jsonl: is a Parquet file, not JSON lines"),
    "Arrow": (b"ARROW1\x00\x00", "x.jsonl: is an Arrow file, not JSON lines"),
    "UTF-16": (ROW.encode("utf-16"), "x.jsonl: is UTF-16, not UTF-8"),
    "UTF-16, the other way": (b"\xfe\xff" + ROW.encode("utf-16-be"), "x.jsonl: is UTF-16, not UTF-8"),
    "UTF-16 without a mark": (ROW.encode("utf-16-le"), "x.jsonl: is UTF-16 or UTF-32, not UTF-8"),
    "UTF-32": (ROW.encode("utf-32"), "x.jsonl: is UTF-32, not UTF-8"),
    "UTF-32 without a mark": (ROW.encode("utf-32-be"), "x.jsonl: is UTF-16 or UTF-32, not UTF-8"),
    "a JSON list": (b"[" + ROW.encode() + b"]", "x.jsonl:1: the file is a JSON list, not JSON lines"),
    "an indented object": (b'{\n  "prompt": "p"\n}\n', "x.jsonl:1: the object goes over several lines"),
}


@pytest.mark.parametrize("name", FILES)
def test_another_kind_of_file_is_one_message_in_every_reader(name: str, folder: Path) -> None:
    content, message = FILES[name]
    (folder / "x.jsonl").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_examples("x.jsonl")
    assert caught.value.message == message
    rows = GradedRows(["x.jsonl"], lambda row, place: "")
    with open_grader(GraderConfig(path="echo.py", workers=1), log_path=None) as grader:
        assert list(rows.lines(grader)) == []
    assert rows.problem is not None
    assert rows.problem.message == message


def test_files_that_are_none_through_the_command(folder: Path) -> None:
    (folder / "x.jsonl").write_bytes(FILES["gzip"][0])
    (folder / "y.jsonl").mkdir()
    os.mkfifo(folder / "z.jsonl")
    done = rft("validate", "-t", "x.jsonl", "-v", "y.jsonl", "--set", "data.test=z.jsonl", folder=folder)
    assert (done.code, done.problems) == (2, [
        "x.jsonl: is gzip-compressed", "y.jsonl: is a directory",
        "z.jsonl: is a pipe or a device: a job reads its rows more than once",
    ])  # fmt: skip
    (folder / "empty.jsonl").write_bytes(b"\xef\xbb\xbf\n \n")
    done = rft("validate", "-t", "empty.jsonl", "-v", "-", folder=folder)
    assert done.problems == [
        "empty.jsonl: the file has no rows", "a job reads its rows more than once: it can't take '-'"
    ]  # fmt: skip
    done = rft("grade", "--reward-model", "echo.py", "x.jsonl", folder=folder)
    assert (done.code, done.problems, done.stdout) == (2, ["x.jsonl: is gzip-compressed"], b"")


def test_grade_reads_pipes_and_an_endless_device_comes_to_an_end(folder: Path) -> None:
    done = rft("grade", "--reward-model", "echo.py", "-", folder=folder, given=ROW.encode() + b"\xff")
    assert (done.code, done.problems) == (2, ["stdin:2:1: byte 0xff is not valid UTF-8"])
    assert done.stdout.startswith(ROW.encode()[:-2])
    done = rft_measured("grade", "--reward-model", "echo.py", "/dev/zero", folder=folder)
    assert (done.code, done.problems) == (2, ["/dev/zero:1: the line is longer than 100 MB"])
    assert done.peak_mb < 500


def test_a_line_of_50_mb_is_a_row(folder: Path) -> None:
    long = "é\\n" * 12_500_000
    (folder / "x.jsonl").write_text(f'{{"prompt": "p", "completion": "c", "v": "{long}"}}\n' + ROW)
    (folder / "echo.py").write_text(
        "import hashlib\n\ndef score(completion, example):\n    v = example.get('v', '')\n"
        "    h = int(hashlib.sha256(v.encode()).hexdigest()[:12], 16)\n    return {'reward': 0, 'n': len(v), 'h': h}\n"
    )
    done = rft("grade", "--reward-model", "echo.py", "x.jsonl", folder=folder)
    assert done.code == 0, done.err
    first, second = done.stdout.splitlines()
    assert b'"components": {"n": 25000000.0, "h": ' in first[-200:]
    # sha256 of 12.5 million times "é\n", by sha256sum.
    assert re.search(rb'"h": ([0-9.]+)', first[-200:])[1] == b"%d.0" % int(DIGEST_50_MB, 16)
    assert b'"n": 0.0' in second
    done = rft_measured("validate", "-t", "x.jsonl", folder=folder)
    assert done.code == 0, done.err
    print(f"a line of 50 MB: {done.peak_mb:.0f} MB at most")
    assert done.peak_mb < 500


DIGEST_50_MB = "5dbc85eea634"


@pytest.mark.slow
def test_a_million_rows_take_about_a_kilobyte_each(folder: Path) -> None:
    with (folder / "x.jsonl").open("w") as file:
        for n in range(1_000_000):
            file.write(f'{{"task": "Add the numbers.", "input": "{n} + {7 * n}", "output": "{8 * n}"}}\n')
    size = (folder / "x.jsonl").stat().st_size / 2**20
    done = rft_measured("validate", "-t", "x.jsonl", folder=folder)
    assert done.code == 0, done.err
    assert b"1,000,000 rows, format rft" in done.stdout
    print(f"1,000,000 rows, {size:.0f} MB: {done.peak_mb:.0f} MB at most")
    assert done.peak_mb < 1300


def test_an_interrupted_reader_ends_quietly(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    process = subprocess.Popen(
        [*RFT, "grade", "--reward-model", "echo.py", "pipe"],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    with (folder / "pipe").open("wb") as pipe:
        pipe.write(ROW.encode())
        pipe.flush()
        assert process.stdout is not None
        assert process.stdout.readline().startswith(ROW.encode()[:-2])
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.decode().splitlines()[-1] == "error: interrupted by SIGINT after 1 row"


# ------------------------------------------------------------------------------------------------ fuzz

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
ROWS = st.dictionaries(TEXT, VALUES, max_size=5).map(lambda row: {**row, "prompt": "p", "completion": "c"})


@given(st.lists(ROWS, min_size=1, max_size=4), st.booleans(), st.sampled_from(["\n", "\r\n", "\n \n"]))
def test_any_value_reaches_the_grader_as_it_was(rows: list[dict[str, Any]], ascii: bool, end: str) -> None:
    content = end.join(json.dumps(row, ensure_ascii=ascii) for row in rows).encode()
    found = list(RowReader(io.BytesIO(content), "x.jsonl"))
    assert [repr(row.value) for row in found] == [repr(row) for row in rows]
    requests = (GradeRequest("c", row.value or {}) for row in found)
    packer = Packer(WITH_ROW)
    works = [packer.pack(place, request) for place, request in enumerate(requests)]
    assert [repr(item_of(work).example) for work in works] == [repr(row) for row in rows]


@settings(max_examples=100 if FULL else 3)  # each starts a process
@given(rows=st.lists(ROWS, min_size=20, max_size=40))
def test_any_value_comes_out_of_a_worker_as_it_went_in(
    rows: list[dict[str, Any]], tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("echo")
    (folder / "echo.py").write_text(ECHO)
    (folder / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    examples = read_examples(str(folder / "x.jsonl")).examples
    with open_grader(GraderConfig(path=str(folder / "echo.py"), workers=1), log_path=None, seed=0) as grader:
        grades = grader.grade([GradeRequest("c", example.fields) for example in examples])
    assert {grade.status for grade in grades} == {"graded"}
    assert echo(folder) == [ascii(row) for row in rows]


def check_bytes(content: bytes) -> None:
    """Whatever the bytes are: rows that can be written again, or problems with file and line; both readers agree."""
    refused: UsageError | None = None
    try:
        for row in RowReader(io.BytesIO(content), "x.jsonl"):
            if row.value is None:
                assert row.problem is not None
                assert re.match(rf"x\.jsonl:{row.line}:(\d+:)? ", row.problem.message)
            else:
                json.dumps(row.value, ensure_ascii=False, allow_nan=False).encode()
    except UsageError as error:
        refused = error
    assert refused is None or refused.message.startswith("x.jsonl")


@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    check_bytes(content)


JSON_PIECES = st.sampled_from(
    [b"{", b"}", b"[", b"]", b":", b",", b'"a"', b'"a":', b'{"a":1', b'"', b"\\", b"\\ud800", b'"\\ud83d', b"NaN",
     b"-Infinity", b"1e999", b"-0", b"01", b"1.", b"1e-999", b"0.12345678901234567890123", b"9" * 4400, b"[" * 120,
     b"\n", b"\r", b" ", b"\xff", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\x00", b"null", b"true", b"'"],
)  # fmt: skip


@given(st.lists(JSON_PIECES, max_size=30).map(b"".join))
def test_any_pieces_of_json(content: bytes) -> None:
    check_bytes(content)


@given(st.lists(ROWS, min_size=1, max_size=3), st.data())
def test_any_damage_to_a_good_file(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    content = bytearray("\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        piece = data.draw(JSON_PIECES | st.binary(max_size=3))
        content[place : place + data.draw(st.integers(0, 4))] = piece
    check_bytes(bytes(content))
    check_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))


FORMAT_KEYS = st.sampled_from(
    ["prompt", "messages", "task", "input", "output", "question", "id", "reward_model"]
)


@given(rows=st.lists(st.dictionaries(FORMAT_KEYS, VALUES, max_size=4), min_size=1, max_size=4))
def test_any_value_under_a_key_of_a_format(rows: list[dict[str, Any]], tmp_path_factory: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "format.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    try:
        read = [repr(example.fields) for example in read_examples(str(file)).examples]
    except UsageError as error:
        read = [error.message]
    assert read == [repr(row) for row in rows] or read[0].startswith(str(file))
