"""What a name of rows means: a file by its ending, or a data set of the hub; and its bytes as JSON lines.

Everything but JSON lines is turned into them on the way, a few rows at a time: line n of the stream is what stands in
line n of a text file, and row n of a table. So one reader, one set of rules and one kind of place serve all.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from rft_cli.config.hub_names import hub_name
from rft_cli.errors import UsageError


@dataclass
class Converted:
    """Rows as lines of JSON. `sha256` is that of the file; `notes` say what was changed, complete at the end.

    `pinned`: a name that will mean the same rows, where that is not the one that was given.
    """

    lines: Iterator[bytes]
    sha256: str
    pinned: str | None = None
    notes: list[str] = field(default_factory=list)


class ConvertedStream(io.RawIOBase):
    """The lines as a stream of bytes."""

    def __init__(self, converted: Converted) -> None:
        super().__init__()
        self.converted = converted
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """As much as there is of the current lines; 0 at the end."""
        if not self._left:
            self._left = memoryview(next(self.converted.lines, b""))
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def open_source(path: str, role: str | None) -> BinaryIO | None:
    """The rows of `path` as a stream of JSON lines; None where the file itself is made of them. Raises UsageError.

    `role`: train, validation or test, the split of a data set whose name says none.
    """
    hub = hub_name(path)
    if hub is not None:
        from rft_cli.data.hub import hub_rows

        return _stream(hub_rows(path, hub, role))
    file = Path(path)
    ending = Path(path.lower().removesuffix(".gz")).suffix
    if not file.is_file():
        return None
    if ending == ".parquet":
        from rft_cli.data.tables import parquet_rows

        return _stream(parquet_rows(path))
    if ending in (".csv", ".tsv"):
        from rft_cli.data.csv_rows import csv_rows

        return _stream(csv_rows(path, "\t" if ending == ".tsv" else ","))
    if ending == ".json" and _begins_list(path):
        return _stream(_list_rows(path))
    return _stream(_unzipped(path)) if path.lower().endswith(".gz") else None


def _stream(converted: Converted) -> BinaryIO:
    return io.BufferedReader(ConvertedStream(converted), 1 << 18)


def converted_of(stream: BinaryIO) -> Converted | None:
    """What is known of a stream that `open_source` gave."""
    raw = getattr(stream, "raw", None)
    return raw.converted if isinstance(raw, ConvertedStream) else None


def open_bytes(path: str) -> BinaryIO:
    """The content of a file, unpacked where its name ends in `.gz`. Raises OSError."""
    packed = path.lower().endswith(".gz")
    return cast(BinaryIO, gzip.open(path, "rb") if packed else Path(path).open("rb"))


def file_hash(path: str) -> str:
    """SHA-256 of the file as it lies on the disk; raises UsageError where it can't be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: can't be opened: {error.strerror or error}") from error


def json_line(value: Any) -> bytes:
    """The value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def damaged(path: str, error: Exception) -> UsageError:
    """What is said of a file that breaks off while it is read."""
    return UsageError(
        f"{path}: can't be read to its end: {str(error) or type(error).__name__}", "get it again"
    )


PACKED = (EOFError, gzip.BadGzipFile, zlib.error)
"""What unpacking raises."""


def _unzipped(path: str) -> Converted:
    def lines() -> Iterator[bytes]:
        try:
            with open_bytes(path) as file:
                while block := file.read(1 << 18):
                    yield block
        except PACKED as error:
            raise damaged(path, error) from None

    return Converted(lines(), file_hash(path))


def _begins_list(path: str) -> bool:
    try:
        with open_bytes(path) as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except (OSError, EOFError, zlib.error):
        return False


def _list_rows(path: str) -> Converted:
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
