"""Prompts that are in the training file and in the validation or test file: memorising them looks like learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rft_cli.data.dataset import Dataset
from rft_cli.data.problems import Problems
from rft_cli.errors import UsageError
from rft_cli.types import Example, Source

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Overlap:
    """The same prompt in two rows: the training row at `place`, and the first such row of the other file."""

    place: int
    train: Source
    other: Source


@dataclass(frozen=True)
class OverlapResult:
    """The training rows that are left, and a note for people (None: no overlap)."""

    train: Dataset
    note: str | None


def find_overlap(train: Dataset, other: Dataset) -> list[Overlap]:
    """One Overlap for each training row whose prompt text is also in `other`."""
    first: dict[str, Source] = {}
    for example in other.examples:
        first.setdefault(_key(example), example.source)
    keys = ((place, example, _key(example)) for place, example in enumerate(train.examples))
    return [Overlap(place, example.source, first[key]) for place, example, key in keys if key in first]


def _key(example: Example) -> str:
    """The prompt's text, without the white space around it."""
    return example.prompt_text().strip()


def apply_overlap(train: Dataset, other: Dataset, policy: Literal["warn", "drop", "error"]) -> OverlapResult:
    """Do what `data.overlap` says: note it, drop rows from `train`, or raise UsageErrors with the lines."""
    found = find_overlap(train, other)
    if not found:
        return OverlapResult(train, None)
    if policy == "error":
        _refuse(train, other, found)
    what = f"{len(found)} of {len(train.examples)} training rows have a prompt that is also in {other.path}"
    where = f"{train.path}: {what} ({_lines(found)})"
    if policy == "warn":
        return OverlapResult(train, f"{where}; --set data.overlap=drop leaves them out of training")
    dropped = {overlap.place for overlap in found}
    kept = [example for place, example in enumerate(train.examples) if place not in dropped]
    if not kept:
        raise UsageError(
            f"{train.path}: every prompt is also in {other.path}, so data.overlap: drop leaves none",
            "use other rows for training",
        )
    return OverlapResult(replace(train, examples=kept), f"{where}; left out of training")


def _refuse(train: Dataset, other: Dataset, found: Sequence[Overlap]) -> None:
    problems = Problems(train.path)
    for overlap in found:
        message = f"{overlap.train}: the same prompt as {overlap.other}"
        problems.add(UsageError(message, "remove one of them, or set data.overlap: drop"), overlap.train.line)
    problems.raise_any()


def _lines(found: Sequence[Overlap]) -> str:
    """The rows of the first ones: by their lines alone where each side is one file."""
    several = any(len({getattr(overlap, side).file for overlap in found}) > 1 for side in ("train", "other"))
    shown = [
        (o.train, o.other) if several else (f"line {o.train.line}", o.other.line) for o in found[:_NAMED]
    ]
    pairs = ", ".join(f"{mine} = {theirs}" for mine, theirs in shown)
    return pairs if len(found) <= _NAMED else f"{pairs}, …"
