"""The rows an audit is made on: a seeded sample, each with its reference, a wrong one, and the options there are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from rft_cli.types import Example

MAX_OPTIONS = 24
"""References that are listed when all options are: more of them make no difference to a grader that takes lists."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row: its reference, and `other`, the reference of another row, which says something else.

    `other_place` is the place of that row among the audited ones, None where it is not one of them (or where all rows
    have one reference: then `other` is None too). `options` are different references, this row's in their middle.
    """

    example: Example
    reference: str
    other: str | None
    other_place: int | None
    options: tuple[str, ...]

    @property
    def fenced(self) -> bool:
        """Whether the reference is a block between fences, which a grader may take out of any text."""
        return "```" in self.reference


def choose_rows(
    examples: Sequence[Example], references: Sequence[str | None], count: int, seed: int
) -> list[AuditRow]:
    """Up to `count` of the rows that have a reference, drawn with `seed`, in the order of the file."""
    usable = [(e, r) for e, r in zip(examples, references, strict=True) if r is not None and r.strip()]
    drawn = random.Random(seed)
    places = sorted(drawn.sample(range(len(usable)), min(count, len(usable))))
    chosen = [usable[place] for place in places]
    # The audited rows' own references first: what their text gets on their own row is known then.
    pool = list(dict.fromkeys([*(r for _, r in chosen), *(r for _, r in usable)]))
    return [_row(chosen, place, pool) for place in range(len(chosen))]


def _row(chosen: Sequence[tuple[Example, str]], place: int, pool: Sequence[str]) -> AuditRow:
    example, reference = chosen[place]
    others = [text for text in pool if _plain(text) != _plain(reference)][: MAX_OPTIONS - 1]
    middle = (len(others) + 1) // 2
    options = (*others[:middle], reference, *others[middle:])
    for step in range(1, len(chosen)):
        there = (place + step) % len(chosen)
        if _plain(chosen[there][1]) != _plain(reference):
            return AuditRow(example, reference, chosen[there][1], there, options)
    return AuditRow(example, reference, others[0] if others else None, None, options)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
