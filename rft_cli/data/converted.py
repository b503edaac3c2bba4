"""Files of other formats as JSON lines: what every converter gives, and what they share."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

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


def open_bytes(path: str) -> BinaryIO:
    """The content of a file, unpacked where its name ends in `.gz`. Raises OSError."""
    packed = path.lower().endswith(".gz")
    return cast(BinaryIO, gzip.open(path, "rb") if packed else Path(path).open("rb"))


def file_hash(path: str) -> str:
    """SHA-256 of the file on disk; raises UsageError if it can't be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: can't be opened: {error.strerror or error}") from error


def json_line(value: Any) -> bytes:
    """The value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def damaged(path: str, error: Exception) -> UsageError:
    """The error for a file that ends too early."""
    return UsageError(
        f"{path}: can't be read to its end: {str(error) or type(error).__name__}", "get it again"
    )


PACKED = (EOFError, gzip.BadGzipFile, zlib.error)
"""What unpacking raises."""
