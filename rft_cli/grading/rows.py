"""Rows with completions in, the same lines with their grade out: what `rft grade` does, apart from writing."""

from __future__ import annotations

import io
import json
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from rft_cli.config.schema import DataConfig
from rft_cli.config.suggest import as_word
from rft_cli.data.bad_row import BadRow
from rft_cli.data.dataset import prompt_for
from rft_cli.data.json_line import Row, parse_line
from rft_cli.data.references import reference_of
from rft_cli.data.rows import check_length, first_line, open_rows, standard_input
from rft_cli.errors import UsageError
from rft_cli.grading.openai.run_response import run_lines
from rft_cli.grading.protocol import Feed, Grader
from rft_cli.types import Example, Grade, GradeRequest, Message, Source

Asked = str | Sequence[Message]
KEY = "grade"
_READ_BYTES = 1 << 18
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class GradedRows:
    """Rows of files being graded. `lines` end before the first bad row, and `problem` is what is wrong with it.

    `complete` gives a row's completion, or raises UsageError, whose message names `place`; `prompt` what was asked
    (None: the grader does not look). `openai_run` writes what OpenAI's `/graders/run` answers in place of the rows.
    """

    def __init__(
        self,
        files: Sequence[str],
        complete: Callable[[Row, str], str],
        *,
        prompt: Callable[[Row, str], Asked | None] | None = None,
        openai_run: bool = False,
    ) -> None:
        self.problem: UsageError | None = None
        self._rows = _Rows(files)
        self._complete = complete
        self._prompt = prompt
        self._openai_run = openai_run
        self._waiting: deque[tuple[str, Row]] = deque()
        self._given = 0

    def lines(self, grader: Grader) -> Iterator[list[bytes]]:
        """The graded lines in order, some at a time."""
        write = run_lines(grader) if self._openai_run else None
        for grades in grader.stream(Feed(self._requests(), self._rows.ready)):
            lines = []
            for grade in grades:
                _, row = self._waiting.popleft()
                lines.append(graded_line(row, grade) if write is None else write(grade))
            self._given += len(lines)
            yield lines

    def where(self, place: int) -> str:
        """file:line of the row at a place, while it is being graded."""
        return self._waiting[place - self._given][0]

    def _requests(self) -> Iterator[GradeRequest]:
        """One request a row, up to the first bad row."""
        try:
            for place, row in self._rows:
                if row.problem is not None:
                    raise row.problem
                completion = self._complete(row, place)
                prompt = None if self._prompt is None else self._prompt(row, place)
                self._waiting.append((place, row))
                yield GradeRequest(completion, row.value or {}, prompt=prompt, place=place)
        except UsageError as problem:
            self.problem = problem


class _Rows:
    """The rows of files (`-`: standard input), each with its file:line; a file that can't be read is a bad row.

    `ready` tells whether the next row, or the end, is there: a pipe may be slow.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._files = deque(files)
        self._name = ""
        self._line = 0
        self._stream: BinaryIO | None = None
        self._tail = bytearray()
        self._read: deque[tuple[str, Row]] = deque()

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        while self._read or self._more():
            if self._read:
                yield self._read.popleft()

    def ready(self) -> bool:
        while not self._read and (self._stream is None or _is_readable(self._stream)):
            if not self._more():
                return True
        return bool(self._read)

    def _more(self) -> bool:
        """Open the next file, or read once from the one that is open; False at the end of the last."""
        try:
            if self._stream is None:
                if not self._files:
                    return False
                self._open(self._files.popleft())
            else:
                self._read_once(self._stream)
        except UsageError as problem:
            self._read.append((self._name, Row(self._line, None, problem)))
            self._files.clear()
            self._close()
        return True

    def _open(self, path: str) -> None:
        self._name, self._line = "stdin" if path == "-" else path, 0
        self._stream = standard_input() if path == "-" else open_rows(path)

    def _read_once(self, stream: BinaryIO) -> None:
        try:
            read = stream.read1 if isinstance(stream, io.BufferedIOBase) else stream.read
            data = read(_READ_BYTES)
        except OSError as error:
            raise UsageError(f"{self._name}: can't be read: {error.strerror or error}") from error
        self._tail += data
        if data and b"\n" not in data:
            check_length(len(self._tail), self._name, self._line + 1)
            return
        lines = bytes(self._tail).split(b"\n")
        if data:
            self._tail = bytearray(lines.pop())
        else:
            self._close()
        for raw in lines:
            self._line += 1
            if self._line == 1:
                raw = first_line(raw, self._name)
            if raw.strip():
                row = parse_line(raw.rstrip(b"\r"), self._name, self._line)
                self._read.append((f"{self._name}:{self._line}", row))

    def _close(self) -> None:
        self._tail = bytearray()
        if self._stream is not None and (sys.stdin is None or self._stream is not sys.stdin.buffer):
            self._stream.close()
        self._stream = None


def _is_readable(stream: BinaryIO) -> bool:
    """Whether a reading would answer at once, if only with the end."""
    try:
        return bool(select.select([stream], [], [], 0)[0])
    except (OSError, ValueError):  # a stream without a descriptor does not wait
        return True


def graded_line(row: Row, grade: Grade) -> bytes:
    """The row's own line of UTF-8 with its grade as last key, so that no value of it is written another way.

    A grade that the row had is replaced, and the other values of such a row are written as Python writes them.
    """
    text = row.text.strip()
    if row.value is not None and KEY in row.value:
        text = _encode({key: value for key, value in row.value.items() if key != KEY})
    body = text[:-1].rstrip()
    comma = "" if body == "{" else ", "
    line = f'{body}{comma}"{KEY}": {_grade_json(grade)}}}\n'
    # Half a surrogate pair in an error message becomes \udXXX, which is the escape that JSON has for it.
    return line.encode("utf-8", "backslashreplace")


def _grade_json(grade: Grade) -> str:
    if grade.status == "graded" and not grade.components:  # most grades, at a tenth of the time
        return f'{{"status": "graded", "reward": {grade.reward!r}, "components": {{}}, "error": null}}'
    return _encode(grade.to_json())


def prompt_reader(data: DataConfig, *, required: bool) -> Callable[[Row, str], Asked | None]:
    """What reads a row's prompt as these settings say. Where there is none: UsageError if `required`, else None."""

    def read(row: Row, place: str) -> Asked | None:
        try:
            return prompt_for(row.value or {}, format=data.format, columns=data.columns, system=data.system)
        except BadRow as reason:
            if not required:
                return None
            raise UsageError(f"{place}: {reason.reason}", reason.fix) from None

    return read


def completion_of(row: Row, place: str, field: str) -> str:
    """What is to be graded in this row; raises UsageError where there is nothing."""
    fields: Mapping[str, Any] = row.value or {}
    if field not in fields:
        keys = ", ".join(map(as_word, list(fields)[:12])) or "none"
        raise UsageError(f"{place}: no key '{field}'", f"name the key with --field (this row has: {keys})")
    completion = fields[field]
    if not isinstance(completion, str):
        raise UsageError(f"{place}: '{field}' is not a string", "the completion is the model's text")
    return completion


def gold_of(row: Row, place: str, columns: Mapping[str, str]) -> str:
    """The row's own reference; raises UsageError where it has none."""
    reference = reference_of(Example("", "", row.value or {}, Source(place, row.line)), columns)
    if reference is None:
        raise UsageError(f"{place}: the row has no reference", "--gold grades output, answer and the like")
    return reference
