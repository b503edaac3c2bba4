"""A graded line: the row's own text with `"grade"` added, so that no value of it is written another way."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # public, missing in typeshed
from typing import Any

from rft_cli.types import Grade

KEY = "grade"
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def graded_line(text: str, row: Mapping[str, Any], grade: Grade) -> bytes:
    """One line of UTF-8 with its line end: `text`, which is the JSON object `row`, and its grade as last key.

    A grade that the row had is replaced; all other keys keep their text, so 1.0 stays 1.0 and 1e3 stays 1e3.
    """
    text = text.strip()
    if KEY in row:
        text = _without(text, KEY)
    body = text[:-1].rstrip()
    comma = "" if body == "{" else ", "
    added = json.dumps(grade.to_json(), ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair in an error message becomes \udXXX, which is the escape that JSON has for it.
    return f'{body}{comma}"{KEY}": {added}}}\n'.encode("utf-8", "backslashreplace")


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
