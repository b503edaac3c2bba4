"""JSON lines in, one dict a line out, with the line number and the reason where a line is bad.

How it is used, by the data reader and by `rft grade` alike:

    rows = read_rows("train.jsonl")          # or "-": standard input; raises UsageError if it can't be opened
    for row in rows:                         # streams: one line in memory at a time
        if row.problem is not None:          # a UsageError whose message begins with file:line
            ...                              # report it and go on, or collect it in Problems
        else:
            use(row.line, row.value)         # the object, values as they stood in the file
    rows.sha256                              # of the bytes read so far: of the file once the loop has ended

Lines end at b"\\n" alone, so that U+2028 inside a string is text; a byte order mark, CRLF and blank lines are
accepted. What `json` lets through and later breaks something is refused: NaN and Infinity, numbers beyond a
float, duplicate keys, lone surrogates, deep nesting.
"""

from __future__ import annotations

import hashlib
import io
import json
import json.scanner
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rft_cli.errors import UsageError, UsageErrors

MAX_DEPTH = 100
"""Levels of lists and objects a row may nest: far over any real row, far under Python's recursion limit."""
SHOWN_PROBLEMS = 20
"""Problems of one file that are spelled out; the others are counted."""

_BOM = b"\xef\xbb\xbf"
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]|NaN|-?Infinity', re.DOTALL)
_FOREIGN = {
    b"\x1f\x8b": ("is gzip-compressed", "unpack it first", "gunzip -k"),
    b"PAR1": ("is a Parquet file, not JSON lines", "convert it to one JSON object a line", None),
    b"PK\x03\x04": ("is a zip archive, not JSON lines", "unpack it first", None),
    b"\xff\xfe": ("is UTF-16, not UTF-8", "convert it", "iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("is UTF-16, not UTF-8", "convert it", "iconv -f UTF-16 -t UTF-8"),
}
"""First bytes of what is no JSON lines: what it is, what to do, and the command that does it."""
_LINES = "write one JSON object a line, for example with: "
_STDIN = "stdin"


@dataclass(frozen=True, slots=True)
class Row:
    """One line that is not blank: its `value`, or the `problem` it has instead. `line` counts from 1.

    `text` is the line as it stood, for those who pass it on.
    """

    line: int
    value: dict[str, Any] | None
    problem: UsageError | None = None
    text: str = ""


class Problems:
    """The problems of one file: all counted, those of the lowest lines kept, so the message stays short."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self._kept: list[tuple[int, UsageError]] = []

    def add(self, problem: UsageError, line: int = 0) -> None:
        """Count `problem`; `line` puts it in order, 0 (the whole file) comes first."""
        self.count += 1
        self._kept.append((line, problem))
        if len(self._kept) >= 2 * SHOWN_PROBLEMS:
            self._kept = self._lowest()

    def raise_any(self) -> None:
        """Raise them as one error; return if there are none."""
        if self.count:
            raise self.error()

    def error(self) -> UsageErrors:
        """The first ones as one error, which says how many more there are."""
        shown = [problem for _, problem in self._lowest()]
        rest = self.count - len(shown)
        more = (
            [UsageError(f"{self.name}: and {rest} more {'problem' if rest == 1 else 'problems'}")]
            if rest
            else []
        )
        return UsageErrors([*shown, *more])

    def _lowest(self) -> list[tuple[int, UsageError]]:
        return sorted(self._kept, key=lambda kept: kept[0])[:SHOWN_PROBLEMS]


class _Refused(Exception):
    """A JSON value we don't take. Raised inside json's hooks, where the position is not known."""


class _Constant(_Refused):
    """NaN or an infinity, whose position can be found again."""


class RowReader:
    """The rows of one byte stream, in order; loop over it once. `name` is what messages call it."""

    def __init__(self, stream: BinaryIO, name: str, *, closes: bool = True) -> None:
        self.name = name
        self._stream = stream
        self._closes = closes
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hash of the bytes read so far, in hex."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Row]:
        try:
            for line, raw in enumerate(self._stream, start=1):
                self._hash.update(raw)
                if line == 1:
                    raw = first_line(raw, self.name)
                if raw.strip():
                    yield parse_line(raw.rstrip(b"\r\n"), self.name, line)
        except OSError as error:
            raise UsageError(f"{self.name}: can't be read: {error.strerror or error}") from error
        finally:
            if self._closes:
                self._stream.close()


def read_rows(path: str) -> RowReader:
    """The rows of a JSONL file, or of standard input for `-`. Raises UsageError if it can't be opened."""
    if path == "-":
        return RowReader(sys.stdin.buffer, _STDIN, closes=False)
    return RowReader(open_rows(path), path)


def open_rows(path: str) -> BinaryIO:
    """The bytes of a file of rows; raises UsageError if it can't be opened."""
    file = Path(path)
    try:
        if file.is_dir():
            raise UsageError(f"{path}: is a directory", "give the JSONL file in it")
        return file.open("rb")
    except FileNotFoundError:
        from rft_cli.config.suggest import (
            near_file,
        )  # here: grader workers read rows too, and need no settings

        raise UsageError(f"{path}: no such file", near_file(file)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{path}: can't be opened: {reason}") from error


def read_rows_from_bytes(content: bytes, name: str) -> RowReader:
    """The rows of bytes already at hand."""
    return RowReader(io.BytesIO(content), name)


def first_line(raw: bytes, name: str) -> bytes:
    """The first line without its byte order mark; raises UsageError where the file is not made of JSON lines."""
    _refuse_foreign(raw, name)
    raw = raw.removeprefix(_BOM)
    _refuse_layout(raw, name)
    return raw


def _refuse_foreign(raw: bytes, name: str) -> None:
    for magic, (what, fix, command) in _FOREIGN.items():
        if raw.startswith(magic):
            raise UsageError(f"{name}: {what}", fix if command is None else f"{fix}: {_run(command, name)}")


def _run(command: str, name: str) -> str:
    """The command on this file; for standard input, where it stands in the pipe."""
    return f"... | {command.removesuffix(' -k')} | rft ..." if name == _STDIN else f"{command} {name}"


def _refuse_layout(raw: bytes, name: str) -> None:
    """One message for a JSON document over many lines, instead of one for each of its lines."""
    start = raw.strip()
    if start.startswith(b"["):
        raise UsageError(
            f"{name}:1: the file is a JSON list, not JSON lines", _LINES + _run("jq -c '.[]'", name)
        )
    if start == b"{":
        raise UsageError(f"{name}:1: the object goes over several lines", _LINES + _run("jq -c .", name))


def parse_line(raw: bytes, name: str, line: int) -> Row:
    """The row of one line without its line end. `name` and `line` are for the problem that it may have."""

    def bad(reason: str, column: int | None = None, fix: str | None = None) -> Row:
        place = f"{name}:{line}" if column is None else f"{name}:{line}:{column}"
        return Row(line, None, UsageError(f"{place}: {reason}", fix))

    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        column = len(raw[: error.start].decode("utf-8")) + 1
        return bad(f"byte 0x{raw[error.start]:02x} is not valid UTF-8", column, "save the file as UTF-8")
    # Counting brackets is a cheap upper bound of the depth: only odd rows pay for the exact scan.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        return bad(f"nested deeper than {MAX_DEPTH} levels")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return bad(
            f"not valid JSON: {_json_reason(error)}", error.pos + 1, "one JSON object a line: correct it"
        )
    except _Refused as error:
        return bad(str(error), _constant_column(text) if isinstance(error, _Constant) else None)
    except ValueError:
        # json turns digits into int, and Python refuses more digits than sys.get_int_max_str_digits().
        return bad("an integer with too many digits", None, "write it as a string")
    if not isinstance(value, dict):
        return bad(f"{kind_of(value)}, but a row must be an object", None, 'write it as {"prompt": …}')
    if "\\ud" in text or "\\uD" in text:
        where = _lone_surrogate(value, "")
        if where is not None:
            return bad(
                f"{where} holds half of a surrogate pair (\\ud800 to \\udfff), which is no character",
                None,
                "a text was cut within a character: write \\ufffd for the half",
            )
    return Row(line, value, None, text)


def object_of(raw: bytes) -> dict[str, Any] | None:
    """The object in a line that is stripped of white space, None where `parse_line` finds a problem; faster by half.

    For rows that are looked at and forgotten, in grader workers.
    """
    try:
        text = raw.decode("utf-8")
        if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
            return None
        value, end = _scan(text, 0)
    except (StopIteration, ValueError, _Refused):
        return None
    if end != len(text) or not isinstance(value, dict):
        return None
    if ("\\ud" in text or "\\uD" in text) and _lone_surrogate(value, "") is not None:
        return None
    return value


def _forgotten(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _Refused
    return made


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json shares key strings within one row only; interning shares them over a million rows.
    made = {sys.intern(key): value for key, value in pairs}
    if len(made) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise _Refused(f"the key {json.dumps(twice)} stands twice in one object")
    return made


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _Refused(f"the number {digits[:30]} is too large")
    return value


def _constant(name: str) -> Any:
    raise _Constant(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
_scan = json.JSONDecoder(object_pairs_hook=_forgotten, parse_float=_float, parse_constant=_constant).scan_once  # type: ignore[attr-defined]  # public, missing in typeshed


def _constant_column(text: str) -> int | None:
    tokens = _TOKEN.finditer(text)
    return next((token.start() + 1 for token in tokens if token.group().endswith(("NaN", "Infinity"))), None)


def _depth(text: str) -> int:
    depth = deepest = 0
    for token in _TOKEN.finditer(text):
        first = token.group()[0]
        depth += (first in "[{") - (first in "]}")
        deepest = max(deepest, depth)
    return deepest


def _json_reason(error: json.JSONDecodeError) -> str:
    """json's message in plain words; `error.doc` is one line."""
    rest = error.doc[error.pos :]
    if error.msg == "Extra data":
        return "something follows the object (one object a line)"
    if error.msg.startswith("Unterminated string"):
        return "this string has no closing quote (a line break in a string is written \\n)"
    if rest.startswith("'"):
        return "strings and keys take double quotes"
    if error.msg.startswith("Illegal trailing comma"):
        return "a comma before the closing bracket"
    if not rest.strip():
        return "the line ends too early"
    if rest.startswith(("}", "]")):
        return "a comma before the closing bracket, or a missing value"
    return error.msg[0].lower() + error.msg[1:]


def kind_of(value: object) -> str:
    """A JSON value's type in words, for messages: `a list`, `null`."""
    if value is None:
        return "null"
    # bool before the numbers: in Python True is an int.
    kinds = {dict: "an object", bool: "a boolean", str: "a string", list: "a list"}
    return next((words for kind, words in kinds.items() if isinstance(value, kind)), "a number")


def _lone_surrogate(value: object, where: str) -> str | None:
    """The path of the first string that can't be written as UTF-8."""
    if isinstance(value, str):
        return (where or "a key") if _unwritable(value) else None
    if isinstance(value, dict):
        for key, inner in value.items():
            if _unwritable(key):
                return "a key" if not where else f"a key in {where}"
            found = _lone_surrogate(inner, f"{where}.{key}" if where else f'"{key}"')
            if found is not None:
                return found
    if isinstance(value, list):
        for position, inner in enumerate(value):
            found = _lone_surrogate(inner, f"{where}[{position}]")
            if found is not None:
                return found
    return None


def _unwritable(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)
