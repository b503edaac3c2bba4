"""A JSON list as JSON lines; an object around the list is refused by name."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

from rft_cli.config.suggest import as_word
from rft_cli.data.converted import PACKED, Converted, damaged, file_hash, open_bytes
from rft_cli.errors import UsageError


def list_rows(path: str) -> Converted:
    """The items of a JSON list, each on the line on which it begins, as it was written."""

    def lines() -> Iterator[bytes]:
        try:
            with open_bytes(path) as file:
                text = file.read().decode("utf-8-sig")
        except PACKED as error:
            raise damaged(path, error) from None
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{path}: byte {error.start + 1} is not valid UTF-8", "save the file as UTF-8"
            ) from None
        written, line, place = 1, 1, 0
        for begin, end in _items(text, path):
            line += text.count("\n", place, begin)
            place = begin
            # Two items on one line go on two: the second has the number of the next.
            yield (
                b"\n" * max(0, line - written)
                + b" ".join(text[begin:end].encode("utf-8").split(b"\n"))
                + b"\n"
            )
            written = max(line, written) + 1

    return Converted(lines(), file_hash(path))


def refuse_wrapped(path: str) -> None:
    """Raise UsageError for one object that holds the rows as a list: `{"data": [{…}, …]}`."""
    with open_bytes(path) as file:
        first = file.readline(_LONGEST_FIRST_LINE).strip()
        if first.endswith(b"}") and file.read(1):
            return  # JSON lines
        file.seek(0)
        try:
            found = json.loads(file.read())
        except (ValueError, RecursionError):
            return
    lists = [key for key, value in found.items() if isinstance(value, list) and _all_objects(value)]
    if len(lists) == 1:
        rows = shlex.quote(f".[{json.dumps(lists[0])}][]")
        raise UsageError(
            f"{path}: the file is one object, and its rows are the list under '{as_word(lists[0])}'",
            f"write the list alone, for example with: jq -c {rows} {shlex.quote(path)} > rows.jsonl",
        )


def _all_objects(values: list[object]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)


_LONGEST_FIRST_LINE = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")


def _items(text: str, path: str) -> Iterator[tuple[int, int]]:
    """Where each item of the list begins and ends."""
    decoder = json.JSONDecoder()
    place = _after_space(text, _after_space(text, 0) + 1)
    while not text.startswith("]", place):
        try:
            _, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            at = error.pos if isinstance(error, json.JSONDecodeError) else place
            raise _broken(text, path, at) from None
        yield place, end
        place = _after_space(text, end)
        if text.startswith(",", place):
            place = _after_space(text, place + 1)
        elif not text.startswith("]", place):
            raise _broken(text, path, place)
    if _after_space(text, place + 1) < len(text):
        raise _broken(text, path, place + 1)


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _broken(text: str, path: str, place: int) -> UsageError:
    line = text.count("\n", 0, place) + 1
    column = place - text.rfind("\n", 0, place)
    return UsageError(
        f"{path}:{line}:{column}: not a valid JSON list", "correct it, or write one JSON object a line"
    )
