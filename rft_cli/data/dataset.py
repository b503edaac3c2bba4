"""Data files as a Dataset: every row an Example, or every problem of the files in one error."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from rft_cli.config.keys import COLUMN_NAMES
from rft_cli.config.suggest import counted, did_you_mean
from rft_cli.data.examples import Examples, Joined, Lines, Reading
from rft_cli.data.formats import FORMATS, Format, Keys, format_of, no_known_key, prompt_of, two_formats
from rft_cli.data.json_line import Row
from rft_cli.data.messages import after_system
from rft_cli.data.rows import Problems, read_rows
from rft_cli.data.tools import tools_of
from rft_cli.data.words import BadRow
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.types import Example, Message


@dataclass(frozen=True)
class Dataset:
    """The examples of one file, or of several one after the other.

    `path` is as the user named it, `sha256` of its bytes (of the files' hashes, where there are several), `notes` say
    what was detected, `remarks` what rows hold that is not read as it stands. `pinned` has a name for each file that
    will mean the same rows: of a data set of the hub, its commit.
    """

    examples: Sequence[Example]
    format: str
    path: str
    sha256: str
    notes: list[str]
    remarks: list[str] = field(default_factory=list)
    pinned: tuple[str, ...] = ()


def read_examples(
    paths: str | Sequence[str],
    *,
    format: Literal["auto"] | Format = "auto",
    columns: Mapping[str, str] | None = None,
    system: str | None = None,
    role: str | None = None,
) -> Dataset:
    """Read a file of prompts, or several: JSONL (`-`: standard input), CSV, Parquet, or a data set of the hub.

    `format` auto detects it from the keys, of each file by itself. `columns` maps canonical names (prompt, messages,
    task …) to the file's own keys. `system` goes before prompts that have none. `role` (train, validation, test) is the
    split of a data set whose name says none.
    Raises UsageError if a file can't be read, UsageErrors with all problems of the rows of all files.
    """
    keys = _checked_columns(columns or {})
    named = [paths] if isinstance(paths, str) else list(paths)
    twice = next((path for path, times in Counter(named).items() if times > 1), None)
    if twice is not None:
        raise UsageError(f"{twice}: named twice", "name each file once")
    if len(named) == 1:
        return _read_one(named[0], role, format, keys, system, alone=True)
    parts, problems = [], list[UsageError]()
    for path in named:
        try:
            parts.append(_read_one(path, role, format, keys, system, alone=False))
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageErrors(problems)
    return Dataset(
        Joined(part.examples for part in parts),
        ", ".join(dict.fromkeys(part.format for part in parts)),
        ", ".join(named),
        combined_hash([part.sha256 for part in parts]),
        [note for part in parts for note in part.notes],
        [remark for part in parts for remark in part.remarks],
        tuple(name for part in parts for name in part.pinned),
    )


def combined_hash(hashes: Sequence[str]) -> str:
    """One hash of several files, given theirs; of one file its own."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _read_one(
    path: str, role: str | None, format: str, keys: Keys, system: str | None, *, alone: bool
) -> Dataset:
    reader = read_rows(path, role)
    survey = _Survey(reader.name, keys, None if format == "auto" else cast(Format, format))
    for row in reader:
        survey.add(row)
    chosen = survey.chosen()
    survey.check_all(chosen)
    detected = [] if format != "auto" else [f"{reader.name}: {survey.detected(chosen)}"]
    remarks = [*(f"{reader.name}: {note}" for note in reader.notes), *survey.remarks(chosen)]
    examples = Examples(survey.lines, Reading(reader.name, chosen, keys, system, alone))
    return Dataset(examples, chosen, path, reader.sha256, detected, remarks, (reader.pinned,))


def prompt_for(
    row: Mapping[str, Any],
    *,
    format: Literal["auto"] | Format = "auto",
    columns: Mapping[str, str] | None = None,
    system: str | None = None,
) -> str | list[Message]:
    """The prompt of one row, as `read_examples` would give it for a file of this row alone. Raises BadRow."""
    keys = _checked_columns(columns or {})
    chosen = format_of(row, keys) if format == "auto" else format
    if chosen is None:
        raise no_known_key(row)
    value = prompt_of(row, chosen, keys, lambda _: None)
    if not isinstance(value, str):
        value = value[:-1] if value[-1]["role"] == "assistant" else value
    if system is None:
        return value
    return after_system([Message(role="user", content=value)] if isinstance(value, str) else value, system)


@dataclass
class _Seen:
    """The lines that something is to be said of: the first one, and how many."""

    first: int = 0
    count: int = 0

    def add(self, line: int) -> None:
        self.first = min(self.first, line) if self.count else line
        self.count += 1

    def told(self, name: str, text: str) -> str:
        more = f" (and {counted(self.count - 1, 'more row')})" if self.count > 1 else ""
        return f"{name}:{self.first}{more}: {text}"


class _Survey:
    """What is known of a file's rows after each was parsed once: their formats, and what is wrong with them.

    A file has the format of most of its rows, which shows at its end alone. So each row is checked as the format that
    its own keys speak for, and only the rows of other formats are looked at again.
    """

    def __init__(self, name: str, keys: Keys, format: Format | None) -> None:
        self.lines = Lines()
        self._remarks: dict[Format, dict[str, _Seen]] = {}
        self._problems = Problems(name)
        self._bad: dict[Format, Problems] = {}
        self._keys = keys
        self._format = format
        self._places: dict[Format | None, array[int]] = {}
        self._first: Row | None = None
        self._unseen = dict(keys.renamed)
        self._tools = keys["tools"]
        self._now: tuple[Format, int] = ("rft", 0)

    def add(self, row: Row) -> None:
        """Take one line into account."""
        if row.value is None:
            if row.problem is not None:
                self._problems.add(row.problem, row.line)
            return
        own = self._format or format_of(row.value, self._keys)
        self._places.setdefault(own, array("Q")).append(len(self.lines))
        self.lines.add(row.line, row.text)
        self._first = self._first or row
        if self._unseen:
            self._unseen = {name: key for name, key in self._unseen.items() if key not in row.value}
        if own is not None:
            self._check(row.line, row.value, own)

    def chosen(self) -> Format:
        """The format of most rows; raises where there is none."""
        if self._first is None:
            self._problems.raise_any()
            raise UsageError(f"{self._problems.name}: the file has no rows", "write one JSON object a line")
        formats = [(len(places), format) for format, places in self._places.items() if format is not None]
        if formats:
            # Of two that are as frequent, the one that came first.
            return max(formats, key=lambda pair: pair[0])[1]
        self._check_renamed()
        if not self._problems.count:
            assert self._first.value is not None
            self._blame(self._first.line, no_known_key(self._first.value))
        raise self._problems.error()

    def check_all(self, chosen: Format) -> None:
        """Raise every problem of the file, whose format is `chosen`."""
        self._check_renamed()
        for own, places in self._places.items():
            if own != chosen:
                for place in places:
                    self._check(self.lines.number(place), self.lines.row(place), chosen)
        self._problems.merge(self._bad.get(chosen))
        if self._format is None:
            self._check_tie(chosen)
        self._problems.raise_any()

    def detected(self, chosen: Format) -> str:
        """The format that was found, for people."""
        return f"detected: {chosen} ({len(self._places[chosen])} of {len(self.lines)} rows)"

    def remarks(self, chosen: Format) -> list[str]:
        """What rows hold that is not read as it stands: each with the first such row, and how many there are."""
        return [seen.told(self._problems.name, text) for text, seen in self._remarks.get(chosen, {}).items()]

    def _remark(self, text: str) -> None:
        """Take what is to be said of the row that is looked at now."""
        format, line = self._now
        self._remarks.setdefault(format, {}).setdefault(text, _Seen()).add(line)

    def _check(self, line: int, row: Mapping[str, Any], format: Format) -> None:
        self._now = (format, line)
        try:
            prompt_of(row, format, self._keys, self._remark)
            if self._tools in row:
                tools_of(row[self._tools], self._tools, self._remark)
        except BadRow as reason:
            bad = self._bad.setdefault(format, Problems(self._problems.name))
            bad.add(UsageError(f"{bad.name}:{line}: {reason.reason}", reason.fix), line)

    def _check_renamed(self) -> None:
        """A key that `columns` names and no row has is a typo: one problem for the file."""
        assert self._first is not None
        for name, key in self._unseen.items():
            message = f"{self._problems.name}: no row has the key '{key}', which data.columns.{name} names"
            self._problems.add(UsageError(message, did_you_mean(key, self._first.value or {})))

    def _check_tie(self, chosen: Format) -> None:
        """A row that has the prompts of two formats: guessing would leave text out of the prompt."""
        assert self._first is not None
        both = two_formats(self._first.value or {}, chosen, self._keys)
        if both is not None:
            names = [word for word in both.split() if word in FORMATS]
            fix = f"say which: --set data.format={names[0]}, or --set data.format={names[1]}"
            self._blame(self._first.line, BadRow(f"the row fits two formats: {both}", fix))

    def _blame(self, line: int, reason: BadRow) -> None:
        problem = UsageError(f"{self._problems.name}:{line}: {reason.reason}", reason.fix)
        self._problems.add(problem, line)


def _checked_columns(columns: Mapping[str, str]) -> Keys:
    unknown = [name for name in columns if name not in COLUMN_NAMES]
    if unknown:
        known = f"known names: {', '.join(COLUMN_NAMES)}"
        raise UsageErrors(
            [
                UsageError(f"data.columns: unknown name '{name}'", did_you_mean(name, COLUMN_NAMES) or known)
                for name in unknown
            ]
        )
    return Keys(dict(columns))
