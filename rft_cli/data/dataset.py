"""Data files as a Dataset: every row an Example, or every problem of the files in one error."""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from rft_cli.config.keys import COLUMN_NAMES
from rft_cli.config.suggest import counted, did_you_mean
from rft_cli.data.bad_row import BadRow
from rft_cli.data.messages import Remark, after_system
from rft_cli.data.problems import Problems
from rft_cli.data.row_formats import FORMATS, Format, Keys, format_of, no_known_key, prompt_of, two_formats
from rft_cli.data.rows import read_rows
from rft_cli.data.tools import tools_of
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.types import Example, Message, Source


@dataclass(frozen=True)
class Dataset:
    """The examples of one file, or of several one after the other.

    `path` is as the user named it, `sha256` of its bytes (of the files' hashes if there are several), `notes` say which
    format was detected, `remarks` what in the rows is ignored or changed. `pinned` has one name for each file, which
    always means the same rows: a hub data set with its commit.
    """

    examples: Sequence[Example]
    format: str
    path: str
    sha256: str
    notes: list[str]
    remarks: list[str] = field(default_factory=list)
    pinned: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Options:
    """How rows become examples. `format`: None detects it. `alone`: no other file is read beside it.

    `tools`: the key of tool definitions.
    """

    keys: Keys
    format: Format | None
    system: str | None
    role: str | None
    alone: bool
    tools: str


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
    Raises UsageErrors with every file that can't be read and all problems of the rows.
    """
    names = [paths] if isinstance(paths, str) else list(paths)
    keys = _checked_columns(columns or {})
    chosen = None if format == "auto" else format
    options = _Options(keys, chosen, system, role, alone=len(names) == 1, tools=keys["tools"])
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise UsageError(f"{twice}: named twice", "name each file once")
    parts, problems = [], list[UsageError]()
    for name in names:
        try:
            with _no_garbage_collection():
                parts.append(_read_file(name, options))
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageErrors(problems)
    return Dataset(
        [example for part in parts for example in part.examples],
        ", ".join(dict.fromkeys(part.format for part in parts)),
        ", ".join(names),
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


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Rows are not garbage: looking for it among a million of them takes a third of the reading time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read_file(path: str, options: _Options) -> Dataset:
    reader = read_rows(path, options.role)
    problems, rows = Problems(reader.name), list[tuple[int, dict[str, Any]]]()
    for row in reader:
        if row.value is not None:
            rows.append((row.line, row.value))
        elif row.problem is not None:
            problems.add(row.problem, row.line)
    if not rows:
        problems.raise_any()
        raise UsageError(f"{reader.name}: the file has no rows", "write one JSON object a line")
    _check_renamed(rows, options.keys, problems)
    counts = Counter(format_of(value, options.keys) for _, value in rows) if options.format is None else {}
    chosen = options.format or _most_frequent(counts, rows, problems)
    remarks = _Remarks(reader.name)
    examples = []
    for line, value in rows:
        try:
            examples.append(_example(value, Source(reader.name, line), chosen, options, remarks.of(line)))
        except BadRow as bad:
            problems.add(_bad_row(reader.name, line, bad), line)
    if options.format is None:
        _check_tie(rows[0], chosen, options.keys, problems)
    problems.raise_any()
    detected = f"{reader.name}: detected: {chosen} ({counts.get(chosen)} of {len(rows)} rows)"
    return Dataset(
        examples,
        chosen,
        path,
        reader.sha256,
        [] if options.format else [detected],
        [*(f"{reader.name}: {note}" for note in reader.notes), *remarks.lines()],
        (reader.pinned,),
    )


def _example(
    row: dict[str, Any], source: Source, format: Format, options: _Options, remark: Remark
) -> Example:
    """The row as an example. Raises BadRow."""
    prompt = prompt_of(row, format, options.keys, remark)
    key = options.tools
    tools = tools_of(row[key], key, remark) if key in row else None
    if options.system is not None and not isinstance(prompt, str):
        prompt = after_system(prompt, options.system)
    own = row.get("id")
    named = isinstance(own, str | int) and not isinstance(own, bool) and own != ""
    id = str(own) if named else f"line-{source.line}" if options.alone else str(source)
    return Example(id, prompt, row, source, tools, options.system if isinstance(prompt, str) else None)


def _most_frequent(
    counts: Mapping[Format | None, int], rows: Sequence[tuple[int, dict[str, Any]]], problems: Problems
) -> Format:
    """The format of most rows, the first of equals; raises if no row has a known one."""
    known = [(count, format) for format, count in counts.items() if format is not None]
    if known:
        return max(known, key=lambda pair: pair[0])[1]
    if not problems.count:
        line, value = rows[0]
        problems.add(_bad_row(problems.name, line, no_known_key(value)), line)
    raise problems.error()


def _check_renamed(rows: Sequence[tuple[int, Mapping[str, Any]]], keys: Keys, problems: Problems) -> None:
    """A key that `columns` names and no row has is a typo: one problem for the file."""
    for name, key in keys.renamed.items():
        if not any(key in value for _, value in rows):
            message = f"{problems.name}: no row has the key '{key}', which data.columns.{name} names"
            problems.add(UsageError(message, did_you_mean(key, rows[0][1])))


def _check_tie(first: tuple[int, Mapping[str, Any]], chosen: Format, keys: Keys, problems: Problems) -> None:
    """A row that has the prompts of two formats: guessing would leave text out of the prompt."""
    line, value = first
    both = two_formats(value, chosen, keys)
    if both is not None:
        names = [word for word in both.split() if word in FORMATS]
        fix = f"say which: --set data.format={names[0]}, or --set data.format={names[1]}"
        bad = BadRow(f"the row fits two formats: {both}", fix)
        problems.add(_bad_row(problems.name, line, bad), line)


def _bad_row(name: str, line: int, bad: BadRow) -> UsageError:
    return UsageError(f"{name}:{line}: {bad.reason}", bad.fix)


class _Remarks:
    """What in a file's rows is ignored or changed: of each remark the first line, the number of lines, the last."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: dict[str, list[int]] = {}
        self._line = 0

    def of(self, line: int) -> Remark:
        """Takes the remarks on this line."""
        self._line = line
        return self._add

    def _add(self, text: str) -> None:
        seen = self._seen.setdefault(text, [self._line, 0, 0])
        # A remark on each message of a row is one on the row.
        if seen[2] != self._line:
            seen[1:] = [seen[1] + 1, self._line]

    def lines(self) -> list[str]:
        found = []
        for text, (first, count, _) in self._seen.items():
            more = f" (and {counted(count - 1, 'more row')})" if count > 1 else ""
            found.append(f"{self._name}:{first}{more}: {text}")
        return found


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
