"""Rows with completions in, the same lines with their grade out: what `rft grade` does, apart from writing.

Of a Python scorer, workers read and write the lines themselves, which makes the parent as good as idle. Any other
grader, and `--gold`, whose completions come from the rows in ways that only the data layer knows, go row by row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from rft_cli.config.schema import DataConfig
from rft_cli.config.suggest import as_word
from rft_cli.data.bad_row import BadRow
from rft_cli.data.dataset import prompt_for
from rft_cli.data.json_line import Row, parse_line
from rft_cli.data.references import reference_of
from rft_cli.errors import UsageError
from rft_cli.grading.feed import Feed
from rft_cli.grading.pool.scorer_grader import ScorerGrader
from rft_cli.grading.pool.supply import Lines
from rft_cli.grading.protocol import Grader
from rft_cli.grading.spec.openai_run import run_lines
from rft_cli.grading.wire.lines import graded_line
from rft_cli.types import Example, GradeRequest, Message, Source

Asked = str | Sequence[Message]
_LINES = 64
"""Lines taken at once."""


class Part(NamedTuple):
    """Graded lines to write, for `rows` rows."""

    text: bytes
    rows: int


class Pipeline(Protocol):
    """Rows being graded. `parts` end before the first bad row, and `problem` is what is wrong with it."""

    problem: UsageError | None

    def parts(self, grader: Grader) -> Iterator[Part]:
        """The graded lines, in order."""
        ...

    def where(self, place: int) -> str:
        """file:line of the row at a place, while it is being graded."""
        ...


class LinePipeline:
    """Rows that the workers read, for a Python scorer. `field` is the key of the completion."""

    def __init__(self, files: Sequence[str], field: str) -> None:
        self.problem: UsageError | None = None
        self._lines = Lines(files)
        self._field = field

    def parts(self, grader: Grader) -> Iterator[Part]:
        assert isinstance(grader, ScorerGrader)
        for graded in grader.stream_lines(self._lines, self._field):
            yield Part(graded.text, graded.rows)
            if graded.bad is not None:
                place, raw = graded.bad
                self.problem = _problem_of(raw, *self._lines.where(place), self._field)
        if self.problem is None:
            self.problem = self._lines.problem

    def where(self, place: int) -> str:
        name, line = self._lines.where(place)
        return f"{name}:{line}"


class RowPipeline:
    """Rows for any grader.

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

    def parts(self, grader: Grader) -> Iterator[Part]:
        write = run_lines(grader) if self._openai_run else None
        for grades in grader.stream(Feed(self._requests(), self._rows.ready)):
            lines = []
            for grade in grades:
                _, row = self._waiting.popleft()
                lines.append(graded_line(row.text, row.value or {}, grade) if write is None else write(grade))
            self._given += len(lines)
            yield Part(b"".join(lines), len(lines))

    def where(self, place: int) -> str:
        name, row = self._waiting[place - self._given]
        return f"{name}:{row.line}"

    def _requests(self) -> Iterator[GradeRequest]:
        """One request a row, up to the first bad row."""
        try:
            for name, row in self._rows:
                if row.problem is not None:
                    raise row.problem
                place = f"{name}:{row.line}"
                completion = self._complete(row, place)
                prompt = None if self._prompt is None else self._prompt(row, place)
                self._waiting.append((name, row))
                yield GradeRequest(completion, row.value or {}, prompt=prompt, place=place)
            self.problem = self._rows.lines.problem
        except UsageError as problem:
            self.problem = problem


class _Rows:
    """The rows of files, each with its file's name; `ready` tells whether the next one, or the end, is there."""

    def __init__(self, files: Sequence[str]) -> None:
        self.lines = Lines(files)
        self._held: deque[tuple[int, bytes]] = deque()
        self._taken = 0
        self._ended = False

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        while self._held or not self._ended:
            if self._held:
                place, raw = self._held.popleft()
                name, line = self.lines.where(place)
                yield name, parse_line(raw.rstrip(b"\r"), name, line)
            else:
                self._take()

    def ready(self) -> bool:
        while not self._held and not self._ended and self.lines.ready():
            self._take()
        return bool(self._held) or self._ended

    def _take(self) -> None:
        """Take lines, and hold those that are not blank."""
        taken = self.lines.take(_LINES)
        self._ended = not taken
        self._held += ((place, raw) for place, raw in enumerate(taken, self._taken) if raw.strip())
        self._taken += len(taken)


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
    fields = row.value or {}
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


def _problem_of(raw: bytes, name: str, line: int, field: str) -> UsageError:
    """What a worker found wrong with a line, in words."""
    row = parse_line(raw.rstrip(b"\r"), name, line)
    if row.problem is not None:
        return row.problem
    try:
        completion_of(row, f"{name}:{line}", field)
    except UsageError as problem:
        return problem
    raise AssertionError(f"{name}:{line} is a good row")
