"""Opens a name of rows: a file by its ending, or a data set of the hub, as a stream of JSON lines.

Other formats are converted a few rows at a time: line n of the stream is what is in line n of a text file, and row n of
a table. So one reader and one kind of place serve all.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rft_cli.config.hub_names import hub_name
from rft_cli.data.converted import PACKED, Converted, ConvertedStream, damaged, file_hash, open_bytes


def open_converted(path: str, role: str | None) -> BinaryIO | None:
    """The rows of `path` as a stream of JSON lines; None if the file itself is made of them. Raises UsageError.

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
        from rft_cli.data.arrow_rows import parquet_rows

        return _stream(parquet_rows(path))
    if ending in (".csv", ".tsv"):
        from rft_cli.data.csv_rows import csv_rows

        return _stream(csv_rows(path, "\t" if ending == ".tsv" else ","))
    if ending == ".json":
        from rft_cli.data.json_list import list_rows, refuse_wrapped

        if _begins_with(path, b"["):
            return _stream(list_rows(path))
        if _begins_with(path, b"{"):
            refuse_wrapped(path)
    return _stream(_unzipped(path)) if path.lower().endswith(".gz") else None


def _stream(converted: Converted) -> BinaryIO:
    return io.BufferedReader(ConvertedStream(converted), 1 << 18)


def converted_of(stream: BinaryIO) -> Converted | None:
    """What is known of a stream that `open_converted` gave."""
    raw = getattr(stream, "raw", None)
    return raw.converted if isinstance(raw, ConvertedStream) else None


def _unzipped(path: str) -> Converted:
    def lines() -> Iterator[bytes]:
        try:
            with open_bytes(path) as file:
                while block := file.read(1 << 18):
                    yield block
        except PACKED as error:
            raise damaged(path, error) from None

    return Converted(lines(), file_hash(path))


def _begins_with(path: str, what: bytes) -> bool:
    try:
        with open_bytes(path) as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(what)
    except (OSError, EOFError, zlib.error):
        return False
