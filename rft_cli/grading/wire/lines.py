"""A graded line: the row's own text with `"grade"` added, so that no value of it is written another way."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # public, missing in typeshed
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # workers write lines too, and make no Grade
    from rft_cli.types import Grade

KEY = "grade"
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def graded_line(text: str, row: Mapping[str, Any], grade: Grade) -> bytes:
    """One line of UTF-8 with its line end: `text`, which is the JSON object `row`, and its grade as last key.

    A grade that the row had is replaced; all other keys keep their text, so 1.0 stays 1.0 and 1e3 stays 1e3.
    """
    error = None if grade.error is None else (grade.error.kind, grade.error.message)
    return with_grade(text.strip().encode(), KEY in row, grade_text(grade.reward, grade.components, error))


def grade_text(reward: float | None, components: Mapping[str, float], error: tuple[str, str] | None) -> bytes:
    """The JSON of a grade, the same as `Grade.to_json` gives; `error` is its kind and message."""
    if error is None and reward is not None and not components:  # most grades
        return f'{{"status": "graded", "reward": {reward!r}, "components": {{}}, "error": null}}'.encode()
    status = "failed" if error is not None else "skipped" if reward is None else "graded"
    number = "null" if reward is None else repr(reward)
    parts = _encode(dict(components)) if components else "{}"
    problem = "null" if error is None else _encode({"kind": error[0], "message": error[1]})
    text = f'{{"status": "{status}", "reward": {number}, "components": {parts}, "error": {problem}}}'
    # Half a surrogate pair in an error message becomes \udXXX, which is the escape that JSON has for it.
    return text.encode("utf-8", "backslashreplace")


def with_grade(raw: bytes, has_grade: bool, grade: bytes) -> bytes:
    """`raw`, the bytes of a JSON object and nothing more, with its grade as last key and a line end.

    `has_grade`: it has one already, which is replaced.
    """
    if has_grade:
        raw = _without(raw.decode(), KEY).encode()
    body = raw[:-1].rstrip()
    comma = b"" if body == b"{" else b", "
    return b'%b%b"grade": %b}\n' % (body, comma, grade)


def _without(text: str, key: str) -> str:
    """The JSON object `text` without the member `key`."""
    members = []
    position = _skip(text, 1)
    while text[position] != "}":
        name, end = scanstring(text, position + 1)
        value = _skip(text, _skip(text, end) + 1)
        _, end = _DECODER.raw_decode(text, value)
        if name != key:
            members.append(text[position:end])
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return "{" + ", ".join(members) + "}"


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return position if match is None else match.end()
