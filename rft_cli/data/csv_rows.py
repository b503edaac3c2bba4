"""CSV and TSV as JSON lines. Every value is text as it was written: "007", "1.10" and "" stay what they are."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator

from rft_cli.data.converted import PACKED, Converted, damaged, file_hash, json_line, open_bytes
from rft_cli.data.problems import MAX_LINE_BYTES, Problems
from rft_cli.errors import UsageError

_TO_UTF8 = "save the file as UTF-8 (in Excel: CSV UTF-8), or: iconv -f WINDOWS-1252 -t UTF-8"
_SEPARATOR_LINE = ["sep=", ""]
"""Excel's first line `sep=;`, split at what it names."""
_OTHERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""What separates columns where the header has no comma."""


def csv_rows(path: str, delimiter: str) -> Converted:
    """The rows after the header, each on the line on which it begins; raises UsageError, or UsageErrors with all."""
    converted = Converted(iter(()), file_hash(path))
    converted.lines = _lines(path, delimiter, converted.notes)
    return converted


def _lines(path: str, delimiter: str, notes: list[str]) -> Iterator[bytes]:
    csv.field_size_limit(MAX_LINE_BYTES)
    problems = Problems(path)
    try:
        with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file, delimiter, notes)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            yield from _rows(reader, path, problems)
    except csv.Error as error:
        raise UsageError(
            f"{path}: not valid CSV near line {reader.line_num}: {error}", "correct it"
        ) from None
    except UnicodeDecodeError:
        place, byte = _not_utf8(path)
        raise UsageError(f"{place}: byte 0x{byte:02x} is not valid UTF-8", _TO_UTF8) from None
    except PACKED as error:
        raise damaged(path, error) from None
    problems.raise_any()


def _delimiter(file: io.TextIOWrapper, given: str, notes: list[str]) -> str:
    """What separates the columns, by the header; the file is at its beginning again."""
    header = file.readline()
    file.seek(0)
    if given in header:
        return given
    for other, name in _OTHERS.items():
        if other in header:
            notes.append(f"columns are separated by {name}")
            return other
    return given


def _not_utf8(path: str) -> tuple[str, int]:
    """Where the first byte is that is not UTF-8, and that byte. The reader decodes blocks: it knows no line."""
    with open_bytes(path) as file:
        for line, raw in enumerate(file, 1):
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"{path}:{line}:{error.start + 1}", raw[error.start]
    return path, 0


def _rows(reader: object, path: str, problems: Problems) -> Iterator[bytes]:
    assert hasattr(reader, "line_num")
    header: list[str] = []
    line = 1
    for cells in reader:  # type: ignore[attr-defined]
        begins, line = line, reader.line_num + 1
        height = line - begins
        if not header:
            if any(cells) and cells != _SEPARATOR_LINE:
                header = _header(cells, path, begins)
            yield b"\n" * height
        elif not cells:
            yield b"\n" * height
        elif len(cells) != len(header):
            said = f"{len(cells)} values, but the header has {len(header)} columns"
            problems.add(
                UsageError(f"{path}:{begins}: {said}", "quote values that hold the separator"), begins
            )
            yield b"\n" * height
        else:
            yield json_line(dict(zip(header, cells, strict=True))) + b"\n" * (height - 1)


def _header(cells: list[str], path: str, line: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = [name for name, times in Counter(names).items() if times > 1 and name]
    if twice:
        raise UsageError(f"{path}:{line}: the header has '{twice[0]}' twice", "rename one of the columns")
    # pandas writes its index as a column without a name.
    return [name or f"column {place}" for place, name in enumerate(names, 1)]
