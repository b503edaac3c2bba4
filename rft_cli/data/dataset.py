"""A data file as a Dataset: every row an Example, or every problem of the file in one error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rft_cli.config.keys import COLUMN_NAMES
from rft_cli.config.suggest import did_you_mean
from rft_cli.data.formats import BadRow, Format, Keys, format_of, no_known_key, prompt_of, with_system
from rft_cli.data.rows import Problems, RowReader, read_rows
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.types import Example, Message, Source


@dataclass(frozen=True)
class Dataset:
    """The examples of one file. `path` is as the user named it, `sha256` of its bytes, `notes` for people."""

    examples: list[Example]
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
    problems = Problems(reader.name)
    rows = _parsed_rows(reader, problems)
    if not rows and not problems.count:
        raise UsageError(f"{reader.name}: the file has no rows", "write one JSON object a line")
    _check_renamed(rows, keys, problems)
    found = Counter(format_of(row, keys) for _, row in rows)
    chosen = _most(found) if format == "auto" else format
    if chosen is None:
        if rows and not problems.count:
            line, row = rows[0]
            problems.add(_problem(reader.name, line, no_known_key(row)), line)
        raise problems.error()
    if format == "auto":
        _check_tie(rows[0], chosen, keys, reader.name, problems)
    examples, dropped = _examples(rows, chosen, keys, system, problems)
    problems.raise_any()
    notes = [f"detected: {chosen} ({found[chosen]} of {len(rows)} rows)"] if format == "auto" else []
    if dropped:
        turns = f"{dropped} of {len(rows)} conversations end with an assistant turn"
        notes.append(f"{turns}: it is left out of the prompt (the grader still sees it)")
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


def _parsed_rows(reader: RowReader, problems: Problems) -> list[tuple[int, dict[str, Any]]]:
    rows = []
    for row in reader:
        if row.value is not None:
            rows.append((row.line, row.value))
        elif row.problem is not None:
            problems.add(row.problem, row.line)
    return rows


def _most(found: Counter[Format | None]) -> Format | None:
    """The format of most rows, of those which have one."""
    return next((format for format, _ in found.most_common() if format is not None), None)


def _examples(
    rows: list[tuple[int, dict[str, Any]]], format: Format, keys: Keys, system: str | None, problems: Problems
) -> tuple[list[Example], int]:
    """The examples, and how many conversations lost their last turn. Bad rows go to `problems`."""
    examples, dropped = [], 0
    for line, row in rows:
        try:
            prompt = prompt_of(row, format, keys)
        except BadRow as reason:
            problems.add(_problem(problems.name, line, reason), line)
            continue
        dropped += prompt.dropped_turn
        value = prompt.value if system is None else with_system(prompt.value, system)
        examples.append(Example(_id_of(row, line), value, row, Source(problems.name, line)))
    return examples, dropped


def _id_of(row: Mapping[str, Any], line: int) -> str:
    own = row.get("id")
    if isinstance(own, str | int) and not isinstance(own, bool) and own != "":
        return str(own)
    return f"line-{line}"


def _problem(name: str, line: int, reason: BadRow) -> UsageError:
    return UsageError(f"{name}:{line}: {reason.reason}", reason.fix)


def _check_renamed(rows: list[tuple[int, dict[str, Any]]], keys: Keys, problems: Problems) -> None:
    """A key that `columns` names and no row has is a typo: one problem for the file."""
    for name, key in keys.renamed.items():
        if rows and not any(key in row for _, row in rows):
            message = f"{problems.name}: no row has the key '{key}', which data.columns.{name} names"
            problems.add(UsageError(message, did_you_mean(key, rows[0][1])))


def _check_tie(
    first: tuple[int, dict[str, Any]], format: Format, keys: Keys, name: str, problems: Problems
) -> None:
    """A row that is a whole rft row and has a prompt too: guessing would leave text out of the prompt."""
    line, row = first
    if format == "trl" and not keys.renamed and {"prompt", "input", "output"} <= row.keys():
        message = f"{name}:{line}: the row fits two formats: trl ('prompt') and rft ('input', 'output')"
        problems.add(UsageError(message, "say which: --set data.format=trl, or --set data.format=rft"), line)


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
