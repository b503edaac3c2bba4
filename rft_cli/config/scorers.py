"""Scorers in `grader.path`: one, or several with weights, as `b.py`, `b.py:function` or `b.py:function=0.2`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from rft_cli.errors import UsageError


class Weighted(NamedTuple):
    """One of the scorers whose rewards are added up, and its weight."""

    path: str
    weight: float


def split_weight(text: str) -> tuple[str, str | None]:
    """The scorer and the text of its weight, None if there is none: a file's own name may hold an equals sign."""
    target, equals, weight = text.rpartition("=")
    file = target.rpartition(":")[0] if not target.endswith(".py") else target
    if not equals or not file.endswith(".py") or Path(text).exists():
        return text, None
    return target, weight


def split_target(target: str) -> tuple[str, str | None]:
    """`scorer.py:function` → file and function; without a function None."""
    file, colon, function = target.rpartition(":")
    if colon and function.isidentifier() and not Path(target).exists():
        return file, function
    return target, None


def weighted(text: str) -> Weighted:
    """Scorer and weight, 1 where none is given. Raises UsageError if the weight is not a finite number."""
    target, weight = split_weight(text)
    if weight is None:
        return Weighted(text, 1.0)
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(
            f"{text}: the weight {weight!r} is not a finite number", f"write for example {target}=0.2"
        )
    return Weighted(target, number)


def one_or_several(value: Any) -> Any:
    """`grader.path` as it is kept: text for one scorer without a weight, else a list."""
    if isinstance(value, str) and split_weight(value)[1] is not None:
        return [value]
    if (
        isinstance(value, list)
        and len(value) == 1
        and isinstance(value[0], str)
        and split_weight(value[0])[1] is None
    ):
        return value[0]
    return value
