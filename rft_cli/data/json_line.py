"""One line of JSON → its object, values as they were written; or where and why it is refused.

Refused is what `json` accepts and what later changes or breaks: NaN and Infinity, numbers that a 64-bit
float does not hold, duplicate keys, lone surrogates, deep nesting.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import Any

from rft_cli.errors import UsageError

MAX_DEPTH = 100
"""Levels of lists and objects a row may nest: more than any real row, less than Python's recursion limit."""
_MOST_DIGITS = 1100
"""Digits of the longest exact decimal of a 64-bit float, and some more: longer ones are refused."""

_NESTING = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_TOKEN = re.compile(rf"{_NESTING.pattern}|NaN|-?Infinity|{_NUMBER}", re.DOTALL)
_COLON = re.compile(r"[ \t\n\r]*:")


@dataclass(frozen=True, slots=True)
class Row:
    """One line that is not blank: its `value`, or the `problem` it has instead. `line` counts from 1.

    `text` is the line as it stood, for those who pass it on.
    """

    line: int
    value: dict[str, Any] | None
    problem: UsageError | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Fault:
    """What `json` accepts and we refuse: its position in the line, why, and what to do."""

    position: int
    reason: str
    fix: str | None = None


class _Refused(Exception):
    """Raised inside json's hooks, where the position is not known."""


def parse_line(raw: bytes, name: str, line: int) -> Row:
    """The row of one line without its line end. `name` and `line` are for the problem that it may have."""

    def bad(reason: str, position: int | None = None, fix: str | None = None) -> Row:
        place = f"{name}:{line}" if position is None else f"{name}:{line}:{position + 1}"
        return Row(line, None, UsageError(f"{place}: {reason}", fix))

    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = len(raw[: error.start].decode("utf-8"))
        return bad(f"byte 0x{raw[error.start]:02x} is not valid UTF-8", before, "save the file as UTF-8")
    if (deep := _too_deep(raw, text)) is not None:
        return bad(f"nested deeper than {MAX_DEPTH} levels", deep, "write the inner part as a string")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return bad(f"not valid JSON: {_json_reason(error)}", error.pos, "one JSON object a line: correct it")
    except (_Refused, ValueError):
        # ValueError: Python's own, for an integer of too many digits
        fault = _first_fault(text)
        return bad(fault.reason, fault.position, fault.fix)
    if not isinstance(value, dict):
        return bad(f"{kind_of(value)}, but a row must be an object", None, 'write it as {"prompt": …}')
    if _may_hold_half(text) and _holds_half(value):
        fault = _first_fault(text)
        return bad(fault.reason, fault.position, fault.fix)
    return Row(line, value, None, text)


def kind_of(value: object) -> str:
    """A JSON value's type in words, for messages: `a list`, `null`."""
    if value is None:
        return "null"
    # bool before the numbers: in Python True is an int.
    kinds = {dict: "an object", bool: "a boolean", str: "a string", list: "a list"}
    return next((words for kind, words in kinds.items() if isinstance(value, kind)), "a number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json shares key strings within one row only; interning shares them over a million rows.
    made = {sys.intern(key): value for key, value in pairs}
    if len(made) < len(pairs):
        raise _Refused
    return made


def _float(digits: str) -> float:
    if len(digits) > _MOST_DIGITS:
        raise _Refused
    value = float(digits)
    # With at most 15 digits, and far from the ends of its range, a float always reads back as what was written.
    if (len(digits) > 16 or not 1e-290 < abs(value) < 1e290) and not _is_kept(digits, value):
        raise _Refused
    return value


def _is_kept(digits: str, value: float) -> bool:
    """Whether the float is what was written: its shortest form, or its exact value rounded to as many digits."""
    if repr(value) == digits:
        return True
    if value in (float("inf"), float("-inf")):
        return False
    from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

    try:
        written = Decimal(digits)
        rounded = Decimal(value).quantize(written, context=Context(2 * _MOST_DIGITS, ROUND_HALF_EVEN))
    except InvalidOperation:
        # an exponent beyond any number
        return False
    return written == Decimal(repr(value)) or (written == rounded and (value == 0) == written.is_zero())


def _constant(name: str) -> Any:
    raise _Refused


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)


def _too_deep(raw: bytes, text: str) -> int | None:
    """The position at which the line nests too deep, or None."""
    # The number of brackets is a cheap upper bound of the depth.
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return None
    depth = 0
    for token in _NESTING.finditer(text):
        first = token.group()[0]
        depth += (first in "[{") - (first in "]}")
        if depth > MAX_DEPTH:
            return token.start()
    return None


def _first_fault(text: str) -> _Fault:
    """The first fault in a refused line; up to there the line is valid JSON."""
    open_objects: list[set[str] | None] = []
    for token in _TOKEN.finditer(text):
        word, position = token.group(), token.start()
        if word in "{[":
            open_objects.append(set() if word == "{" else None)
        elif word in "}]":
            open_objects.pop()
        elif word[0] == '"':
            fault = _string_fault(word, position, _COLON.match(text, token.end()) and open_objects[-1])
            if fault is not None:
                return fault
        elif word[-1] in "Ny":
            # NaN, Infinity
            return _Fault(position, f"{word} is not JSON", "write null, or leave the key out")
        elif not _is_number_kept(word):
            return _Fault(position, *_number_words(word))
    raise AssertionError(f"nothing to refuse in {text[:200]!r}")


def _string_fault(word: str, position: int, keys: set[str] | None) -> _Fault | None:
    """What is wrong with a string; `keys` are those that its object has so far, where it is a key itself."""
    text = json.loads(word)
    what = "a string" if keys is None else "a key"
    if _is_unwritable(text):
        reason = f"{what} holds half of a surrogate pair (\\ud800 to \\udfff), which is not a character"
        return _Fault(position, reason, "a text was cut within a character: write \\ufffd for the half")
    if keys is not None:
        if text in keys:
            return _Fault(position, f"the key {json.dumps(text)} is twice in one object", "remove one")
        keys.add(text)
    return None


def _is_number_kept(word: str) -> bool:
    try:
        if word.lstrip("-").isdigit():
            int(word)
        else:
            _float(word)
    except (_Refused, ValueError):
        return False
    return True


def _number_words(word: str) -> tuple[str, str]:
    """The reason and what to do for a number that can't be kept."""
    shown = word if len(word) <= 30 else word[:27] + "..."
    if word.lstrip("-").isdigit():
        return f"an integer with too many digits ({len(word.lstrip('-'))})", "write it as a string"
    if len(word) <= _MOST_DIGITS:
        value = float(word)
        if value in (float("inf"), float("-inf")):
            return f"the number {shown} is too large for a 64-bit float", "write it as a string"
        if value == 0:
            return f"the number {shown} is too small for a 64-bit float", "write 0, or a string"
        fix = f"write it as a string, or as {value!r}"
        return f"the number {shown} has more digits than a 64-bit float keeps", fix
    return f"the number {shown} has more digits than a 64-bit float keeps", "write it as a string"


def _json_reason(error: json.JSONDecodeError) -> str:
    """json's message in plain words; `error.doc` is one line."""
    rest = error.doc[error.pos :]
    if rest.startswith("\0") and not error.msg.startswith("Invalid control character"):
        return "a NUL byte: the file may be damaged, or not be text"
    if error.msg == "Extra data":
        return "something follows the object (one object a line)"
    if error.msg.startswith("Unterminated string"):
        return "this string has no closing quote (a line break in a string is written \\n)"
    if error.msg.startswith("Invalid control character"):
        return f"the character U+{ord(rest[0]):04X} is unescaped in a string (write \\u{ord(rest[0]):04x})"
    if rest.startswith("'"):
        return "strings and keys take double quotes"
    if error.msg.startswith("Illegal trailing comma"):
        return "a comma before the closing bracket"
    if not rest.strip(" \t\r\n"):
        return "the line ends too early"
    if rest.startswith(("}", "]")):
        return "a comma before the closing bracket, or a missing value"
    return error.msg[0].lower() + error.msg[1:]


def _may_hold_half(text: str) -> bool:
    return "\\ud" in text or "\\uD" in text


def _holds_half(value: object) -> bool:
    """Whether a string in the value can't be written as UTF-8."""
    if isinstance(value, str):
        return _is_unwritable(value)
    if isinstance(value, dict):
        return any(_is_unwritable(key) or _holds_half(inner) for key, inner in value.items())
    return isinstance(value, list) and any(map(_holds_half, value))


def _is_unwritable(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)
