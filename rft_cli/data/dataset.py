"""A data file as a Dataset: every row an Example, or every problem of the file in one error."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rft_cli.config.keys import COLUMN_NAMES
from rft_cli.config.suggest import did_you_mean
from rft_cli.data.examples import Examples, Lines, Reading
from rft_cli.data.formats import BadRow, Format, Keys, format_of, no_known_key, prompt_of, with_system
from rft_cli.data.json_line import Row
from rft_cli.data.rows import Problems, read_rows
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.types import Example, Message


@dataclass(frozen=True)
class Dataset:
    """The examples of one file. `path` is as the user named it, `sha256` of its bytes, `notes` for people."""

    examples: Sequence[Example]
    format: str
    path: str
    sha256: str
    notes: list[str]


def read_examples(
    path: str,
    *,
    format: Literal["auto"] | Format = "auto",
    columns: Mapping[str, str] | None = None,
    system: str | None = None,
) -> Dataset:
    """Read a JSONL file (`-`: standard input) of prompts.

    `format` auto detects it from the keys. `columns` maps canonical names (prompt, messages, task, input,
    output, question, answer) to the file's own keys. `system` goes before prompts that have none.
    Raises UsageError if the file can't be read, UsageErrors with all problems of its rows.
    """
    keys = _checked_columns(columns or {})
    reader = read_rows(path)
    survey = _Survey(reader.name, keys, None if format == "auto" else format)
    for row in reader:
        survey.add(row)
    chosen = survey.chosen()
    survey.check_all(chosen)
    notes = [] if format != "auto" else [survey.detected(chosen)]
    if survey.dropped[chosen]:
        turns = f"{survey.dropped[chosen]} of {len(survey.lines)} conversations end with an assistant turn"
        notes.append(f"{turns}: it is left out of the prompt (the grader still sees it)")
    examples = Examples(survey.lines, Reading(reader.name, chosen, keys, system))
    return Dataset(examples, chosen, path, reader.sha256, notes)


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
    value = prompt_of(row, chosen, keys).value
    return value if system is None else with_system(value, system)


class _Survey:
    """What is known of a file's rows after each was parsed once: their formats, and what is wrong with them.

    A file has the format of most of its rows, which shows at its end alone. So each row is checked as the format that
    its own keys speak for, and only the rows of other formats are looked at again.
    """

    def __init__(self, name: str, keys: Keys, format: Format | None) -> None:
        self.lines = Lines()
        self.dropped: Counter[Format] = Counter()
        self._problems = Problems(name)
        self._bad: dict[Format, Problems] = {}
        self._keys = keys
        self._format = format
        self._places: dict[Format | None, array[int]] = {}
        self._first: Row | None = None
        self._unseen = dict(keys.renamed)

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

    def _check(self, line: int, row: Mapping[str, Any], format: Format) -> None:
        try:
            self.dropped[format] += prompt_of(row, format, self._keys).dropped_turn
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
        """A row that is a whole rft row and has a prompt too: guessing would leave text out of the prompt."""
        assert self._first is not None
        whole = {"prompt", "input", "output"} <= (self._first.value or {}).keys()
        if chosen == "trl" and not self._keys.renamed and whole:
            reason = "the row fits two formats: trl ('prompt') and rft ('input', 'output')"
            fix = "say which: --set data.format=trl, or --set data.format=rft"
            self._blame(self._first.line, BadRow(reason, fix))

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
