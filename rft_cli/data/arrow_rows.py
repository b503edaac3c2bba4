"""Parquet files, and what the hub's data sets are in memory, as JSON lines: a few hundred rows at a time.

Types are kept: numbers, text, truth values, lists and structs become JSON's. What JSON has not is written as text, and
what is not text at all (images, sound) is left out; the notes say both.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from rft_cli.data.converted import Converted, file_hash, json_line
from rft_cli.errors import UsageError

AT_A_TIME = 512
"""Rows that are Python values at once."""
_AS_TEXT: dict[type, Callable[[Any], str]] = {
    datetime: datetime.isoformat, date: date.isoformat, time: time.isoformat, timedelta: str, Decimal: str, UUID: str,
}  # fmt: skip
_LARGEST = 2**63


def parquet_rows(path: str) -> Converted:
    """The rows of a Parquet file. Raises UsageError if it is not one."""
    converted = Converted(iter(()), file_hash(path))
    converted.lines = _parquet_lines(path, converted.notes)
    return converted


def _parquet_lines(path: str, notes: list[str]) -> Iterator[bytes]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            # One thread and small reads: the file is larger than what a job keeps of it at a time.
            batches = file.iter_batches(batch_size=AT_A_TIME, use_threads=False)
            yield from table_lines(batches, notes)
    except (pyarrow.ArrowException, OSError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{path}: can't be read as Parquet: {said}", "check how it was written") from None


def table_lines(batches: Iterable[Any], notes: list[str]) -> Iterator[bytes]:
    """The rows of Arrow record batches, with what was changed in them in `notes` at the end."""
    changes = _Changes()
    row = 0
    for batch in batches:
        left_out = [field.name for field in batch.schema if _is_binary(field.type)]
        for column in left_out:
            changes.add(f"'{column}' holds bytes: it is left out", row + 1)
        kept = batch.drop_columns(left_out) if left_out else batch
        for start in range(0, kept.num_rows, AT_A_TIME):
            lines = []
            for value in kept.slice(start, AT_A_TIME).to_pylist():
                row += 1
                lines.append(json_line(changes.plain(value, row)))
            yield b"".join(lines)
        if not kept.num_columns:
            row += batch.num_rows
    notes += changes.notes()


def _is_binary(type: Any) -> bool:
    """Whether a column is bytes, or an image or a sound: bytes and the path that they came from."""
    import pyarrow.types as kinds

    if kinds.is_struct(type):
        names = {type.field(place).name for place in range(type.num_fields)}
        return names == {"bytes", "path"}
    return bool(kinds.is_binary(type) or kinds.is_large_binary(type) or kinds.is_fixed_size_binary(type))


class _Changes:
    """Converts values to JSON's types, and counts what that changed."""

    def __init__(self) -> None:
        self._seen: dict[str, list[int]] = {}

    def add(self, text: str, row: int) -> None:
        seen = self._seen.setdefault(text, [row, 0])
        seen[1] += 1

    def notes(self) -> list[str]:
        return [f"{text} (from row {first} on)" for text, (first, _) in self._seen.items()]

    def plain(self, value: Any, row: int, key: str = "") -> Any:
        """The value as JSON has it; `key`: the column."""
        if value is None or isinstance(value, str | bool | int):
            return value
        if isinstance(value, dict):
            return {str(name): self.plain(inner, row, key or str(name)) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(inner, row, key) for inner in value]
        if isinstance(value, float):
            if math.isfinite(value):
                return value
            self.add(f"'{key}' holds numbers that are not finite (NaN): they are null", row)
            return None
        if isinstance(value, bytes):
            self.add(f"'{key}' holds bytes: they are text in base64", row)
            return b64encode(value).decode("ascii")
        for kind, write in _AS_TEXT.items():
            if isinstance(value, kind):
                self.add(f"'{key}' holds values of type {kind.__name__}: they are text", row)
                return write(value)
        self.add(f"'{key}' holds values of type {type(value).__name__}: they are text", row)
        return str(value)
