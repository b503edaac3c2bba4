"""JSON lines in, one dict a line out, with the line number and the reason where a line is bad.

How it is used, by the data reader and by `rft grade` alike:

    rows = read_rows("train.jsonl")          # or "-": standard input; raises UsageError if it can't be opened
    for row in rows:                         # streams: one line in memory at a time
        if row.problem is not None:          # a UsageError whose message begins with file:line
            ...                              # report it and continue, or collect it in Problems
        else:
            use(row.line, row.value)         # the object, values as they stood in the file
    rows.sha256                              # of the bytes read so far: of the file once the loop has ended

Lines end at b"\\n" alone, so that U+2028 inside a string is text; a byte order mark, CRLF and blank lines are
accepted. `json_line.py` says what a line must be. A line is held in memory, so it may be 100 MB long and no longer.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rft_cli.data.file_formats import converted_of, open_converted
from rft_cli.data.json_line import Row, parse_line
from rft_cli.data.problems import MAX_LINE_BYTES
from rft_cli.errors import UsageError

_BOM = b"\xef\xbb\xbf"
# JSON's
_SPACE = b" \t\r\n"
_FOREIGN = {
    b"\x1f\x8b": ("is gzip-compressed", "unpack it first", "gunzip -k"),
    b"BZh": ("is bzip2-compressed", "unpack it first", "bunzip2 -k"),
    b"\xfd7zXZ": ("is xz-compressed", "unpack it first", "unxz -k"),
    b"\x28\xb5\x2f\xfd": ("is zstd-compressed", "unpack it first", "unzstd -k"),
    b"PAR1": ("is a Parquet file, not JSON lines", "give it a name that ends in .parquet", None),
    b"ARROW1": ("is an Arrow file, not JSON lines", "convert it to one JSON object a line", None),
    b"PK\x03\x04": ("is a zip archive, not JSON lines", "unpack it first", None),
    b"\xff\xfe\0\0": ("is UTF-32, not UTF-8", "convert it", "iconv -f UTF-32 -t UTF-8"),
    b"\0\0\xfe\xff": ("is UTF-32, not UTF-8", "convert it", "iconv -f UTF-32 -t UTF-8"),
    b"\xff\xfe": ("is UTF-16, not UTF-8", "convert it", "iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("is UTF-16, not UTF-8", "convert it", "iconv -f UTF-16 -t UTF-8"),
}
"""First bytes of other file formats: what it is, what to do, and the command that does it."""
# UTF-16 and UTF-32 without a byte order mark
_WIDE = re.compile(rb"\0+[\[{]|[\[{]\0")
_LINES = "write one JSON object a line, for example with: "
_STDIN = "stdin"


class RowReader:
    """The rows of one byte stream, in order; loop over it once. `name` is what messages call it."""

    def __init__(self, stream: BinaryIO, name: str, *, closes: bool = True) -> None:
        self.name = name
        self._stream = stream
        self._closes = closes
        self._hash = hashlib.sha256()
        self._converted = converted_of(stream)

    @property
    def sha256(self) -> str:
        """Hash of the bytes read so far, in hex; of a file in another format, the whole file's."""
        return self._hash.hexdigest() if self._converted is None else self._converted.sha256

    @property
    def pinned(self) -> str:
        """A name that will mean the same rows."""
        return self.name if self._converted is None else self._converted.pinned or self.name

    @property
    def notes(self) -> list[str]:
        """What was changed to make the rows JSON; complete once the loop has ended."""
        return [] if self._converted is None else self._converted.notes

    def __iter__(self) -> Iterator[Row]:
        try:
            line = 0
            while raw := self._stream.readline(MAX_LINE_BYTES + 1):
                line += 1
                self._hash.update(raw)
                if line == 1:
                    raw = first_line(raw, self.name)
                check_length(len(raw), self.name, line)
                if raw.strip(_SPACE):
                    yield parse_line(raw.rstrip(b"\r\n"), self.name, line)
        except OSError as error:
            raise UsageError(f"{self.name}: can't be read: {error.strerror or error}") from error
        finally:
            if self._closes:
                self._stream.close()


def read_rows(path: str, role: str | None = None) -> RowReader:
    """The rows of a file or a data set of the hub, or of standard input for `-`; UsageError if it can't be opened.

    `role`: train, validation or test, the split of a data set whose name says none.
    """
    if path == "-":
        return RowReader(standard_input(), _STDIN, closes=False)
    return RowReader(open_rows(path, role), path)


def standard_input() -> BinaryIO:
    """The bytes of standard input; raises UsageError if it was closed by the caller (`<&-`)."""
    if sys.stdin is None:
        raise UsageError("there is no standard input to read rows from", "name a FILE")
    return sys.stdin.buffer


def open_rows(path: str, role: str | None = None) -> BinaryIO:
    """Rows as a stream of JSON lines, whatever they are in; raises UsageError if it can't be opened."""
    file = Path(path)
    try:
        found = open_converted(path, role)
        if found is not None:
            return found
        if file.is_dir():
            raise UsageError(f"{path}: is a directory", "give the file of rows in it")
        return file.open("rb")
    except FileNotFoundError:
        # Imported here: grader workers read rows too, and need no settings.
        from rft_cli.config.suggest import near_file

        raise UsageError(f"{path}: no such file", near_file(file)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{path}: can't be opened: {reason}") from error


def first_line(raw: bytes, name: str) -> bytes:
    """The first line without its byte order mark; raises UsageError if the file is not made of JSON lines."""
    _refuse_foreign(raw, name)
    raw = raw.removeprefix(_BOM)
    _refuse_layout(raw, name)
    return raw


def _refuse_foreign(raw: bytes, name: str) -> None:
    for magic, (what, fix, command) in _FOREIGN.items():
        if raw.startswith(magic):
            raise UsageError(f"{name}: {what}", fix if command is None else f"{fix}: {_run(command, name)}")
    if _WIDE.match(raw):
        fix = f"convert it: {_run('iconv -f UTF-16LE -t UTF-8', name)} (or UTF-16BE, UTF-32)"
        raise UsageError(f"{name}: is UTF-16 or UTF-32, not UTF-8", fix)


def _run(command: str, name: str) -> str:
    """The command on this file; for standard input, its place in the pipe."""
    if name == _STDIN:
        return f"... | {command.removesuffix(' -k')} | rft ..."
    return f"{command} {shlex.quote(name)}"


def check_length(size: int, name: str, line: int) -> None:
    """Raise UsageError for a line of too many bytes: the rest of the file is not looked at."""
    if size > MAX_LINE_BYTES:
        message = f"{name}:{line}: the line is longer than {MAX_LINE_BYTES // 1_000_000} MB"
        raise UsageError(message, "write one row a line, and large content to files of its own")


def _refuse_layout(raw: bytes, name: str) -> None:
    """One message for a JSON document over many lines, instead of one for each of its lines."""
    start = raw.strip(_SPACE)
    if start.startswith(b"["):
        raise UsageError(
            f"{name}:1: the file is a JSON list, not JSON lines",
            f"give it a name that ends in .json, or {_LINES}" + _run("jq -c '.[]'", name),
        )
    if start == b"{":
        raise UsageError(f"{name}:1: the object goes over several lines", _LINES + _run("jq -c .", name))
