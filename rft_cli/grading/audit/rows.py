"""The rows an audit is made on: a seeded sample, each with its reference, a wrong one, and the options there are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from rft_cli.types import Example

MAX_OPTIONS = 24
"""References that are listed when all options are: more make no difference to a grader that takes lists."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row: its reference, and `other`, the reference of another row, which says something else.

    `other` is None where all rows have one reference. `options` are different references, this row's in their middle.
    """

    example: Example
    reference: str
    other: str | None
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
    places = sorted(random.Random(seed).sample(range(len(usable)), min(count, len(usable))))
    chosen = [usable[place] for place in places]
    own = [reference for _, reference in chosen]
    # The audited rows' own references first: their rewards on their own rows are known.
    pool = list(dict.fromkeys([*own, *(reference for _, reference in usable)]))
    return [
        _row(example, reference, [*own[place + 1 :], *own[:place]], pool)
        for place, (example, reference) in enumerate(chosen)
    ]


def _row(example: Example, reference: str, following: Sequence[str], pool: Sequence[str]) -> AuditRow:
    others = [text for text in pool if _plain(text) != _plain(reference)][: MAX_OPTIONS - 1]
    middle = (len(others) + 1) // 2
    options = (*others[:middle], reference, *others[middle:])
    other = next((text for text in (*following, *others) if _plain(text) != _plain(reference)), None)
    return AuditRow(example, reference, other, options)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
