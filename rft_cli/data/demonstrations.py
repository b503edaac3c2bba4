"""The completion that `algorithm: sft` learns from a row, reasoning included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rft_cli.config.suggest import counted
from rft_cli.data.dataset import Dataset
from rft_cli.data.messages import last_answer
from rft_cli.data.references import solution_of
from rft_cli.data.row_formats import Keys
from rft_cli.errors import UsageError
from rft_cli.types import Example

SHOWN = 20
"""Lines named in a message; further ones are counted."""


def demonstration_of(example: Example, columns: Mapping[str, str]) -> str | None:
    """The completion that a row teaches, None if it has none or a blank one.

    A key that `columns` names for `output` or `answer` comes first; then `completion` (text or messages), the assistant
    turn that was left out of the prompt, verl's `extra_info.answer`, and at last what the row has as its reference,
    whole: with the reasoning before `####`.
    """
    found = (text for text in _candidates(example, columns) if text is not None and text.strip())
    return next(found, None)


def _candidates(example: Example, columns: Mapping[str, str]) -> Iterator[str | None]:
    row = example.fields
    if "output" in columns or "answer" in columns:
        yield solution_of(example, columns)
    yield _said(row.get("completion"))
    if not isinstance(example.prompt, str) and example.prompt[-1]["role"] != "assistant":
        messages = row.get(Keys(columns)["messages"])
        yield _said(messages) if isinstance(messages, list) else None
    extra = row.get("extra_info")
    yield _said(extra.get("answer")) if isinstance(extra, dict) else None
    yield solution_of(example, columns)


def _said(value: object) -> str | None:
    """Text as it is; of messages the text of the last assistant turn."""
    return value if isinstance(value, str) else last_answer(value)


def without_demonstration(train: Dataset, columns: Mapping[str, str]) -> UsageError | None:
    """The problem of a training file in which rows have nothing to teach; None if every row has."""
    bare = [e.source.line for e in train.examples if demonstration_of(e, columns) is None]
    if not bare:
        return None
    more = f" and {len(bare) - SHOWN:,} more" if len(bare) > SHOWN else ""
    lines = f"{'line' if len(bare) == 1 else 'lines'} {', '.join(map(str, bare[:SHOWN]))}{more}"
    have = "has" if len(bare) == 1 else "have"
    return UsageError(
        f"{train.path}: {len(bare):,} of {counted(len(train.examples), 'row')} {have} no reference, and algorithm sft "
        f"teaches references: {lines}",
        "write the completion to learn as 'output', 'answer', 'completion', 'reference_answer' or a last assistant "
        "message, name your own key with --set data.columns.output=KEY, or leave these rows out",
    )
