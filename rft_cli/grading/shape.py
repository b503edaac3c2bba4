"""The shape of a job's rows: their keys, and whether they have references and messages. Workers bind by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from rft_cli.data.references import reference_of
from rft_cli.types import Example, Source

_SEEN = 2000
"""Rows of a job whose keys are looked at."""
_NOWHERE = Source("", 0)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a scorer's rows look like: their `keys` (None: no row was seen yet), and the first one's `place`.

    `messages`: their prompts are conversations. `reference`: the first has one, `judged`: as verl has it, in
    `reward_model.ground_truth`. `columns`: `data.columns`.
    """

    keys: frozenset[str] | None = None
    place: str = ""
    messages: bool = False
    reference: bool = False
    judged: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)


def shape_of_row(row: Mapping[str, Any], place: str, columns: Mapping[str, str]) -> Shape:
    """The shape of rows that begin with this one."""
    asked = [row.get(columns.get(name, name)) for name in ("messages", "prompt")]
    judged = row.get("reward_model")
    return Shape(
        frozenset(row),
        place,
        messages=any(isinstance(each, list) for each in asked),
        reference=reference_of(Example("", "", row, _NOWHERE), columns) is not None,
        judged=isinstance(judged, dict) and judged.get("ground_truth") is not None,
        columns=columns,
    )


def shape_of(examples: Iterable[Example], columns: Mapping[str, str]) -> Shape:
    """The shape of a job's rows: the first one's, with the keys of the first 2000."""
    seen = islice(examples, _SEEN)
    first = next(seen, None)
    if first is None:
        return Shape(columns=columns)
    found = shape_of_row(first.fields, str(first.source), columns)
    return replace(found, keys=frozenset(first.fields).union(*(example.fields for example in seen)))


def reference_in(row: Mapping[str, Any], columns: Mapping[str, str]) -> Any:
    """The row's reference: verl's unchanged, which need not be text, else the one that the data layer finds."""
    judged = row.get("reward_model")
    if isinstance(judged, dict) and judged.get("ground_truth") is not None:
        return judged["ground_truth"]
    return reference_of(Example("", "", row, _NOWHERE), columns)
