"""The rows of a validation or of the test, before and after, to filter, order and search.

A row costs a few hundred bytes here, however long its completions are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rft_cli.view.completions import Completion, SampleFile, Split, completions_in, files_of
from rft_cli.view.reading import ReadProblems
from rft_cli.view.visible import ending

_EQUAL = 1e-9


@dataclass(slots=True)
class RowSummary:
    """One row: mean reward of its completions before and after, None where there is no grade or no completion.

    `ungraded`: a grade failed or was skipped, on either side; `cut`: a completion reached the length limit.
    """

    row: int
    id: str
    prompt: str
    before: float | None = None
    after: float | None = None
    ungraded: bool = False
    cut: bool = False
    matches: bool = False

    @property
    def gain(self) -> float | None:
        """The reward after less that before; None where one side has no grade."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before


Rewards = tuple[list[float], list[float]]
KINDS: Mapping[str, Callable[[RowSummary], bool]] = {
    "all": lambda row: True,
    "gained": lambda row: (row.gain or 0.0) > _EQUAL,
    "lost": lambda row: (row.gain or 0.0) < -_EQUAL,
    "same": lambda row: row.gain is not None and abs(row.gain) <= _EQUAL,
    "ungraded": lambda row: row.ungraded,
    "cut": lambda row: row.cut,
}
"""Which rows a list shows."""
ORDERS: Mapping[str, Callable[[RowSummary], tuple[bool, float]]] = {
    "gain": lambda row: (row.gain is None, -(row.gain or 0.0)),
    "loss": lambda row: (row.gain is None, row.gain or 0.0),
    "lowest": lambda row: (row.after is None, row.after or 0.0),
    "file": lambda row: (False, row.row),
}
"""What a list is sorted by; rows without the figure come last."""


def sampled_ends(run: Path, split: Split, after: int) -> tuple[SampleFile | None, SampleFile | None]:
    """The files of the base's completions and of those after step `after`; None for one that is not there."""
    files = files_of(run, split, after)
    if split == "test":
        named = {sampled.file.name: sampled for sampled in files}
        return named.get("test-before.jsonl"), named.get("test-after.jsonl")
    found = {sampled.step: sampled for sampled in files}
    return found.get(0), found.get(after)


def read_rows(
    ends: tuple[SampleFile | None, SampleFile | None], problems: ReadProblems, search: str = ""
) -> list[RowSummary]:
    """Each row of either file, in their order; `matches` where prompt, id or a completion has the text `search`."""
    rows: dict[int, RowSummary] = {}
    words = search.lower()
    for place, sampled in enumerate(ends):
        if sampled is None:
            continue
        rewards: dict[int, tuple[float, int]] = {}
        for completion in completions_in(sampled, problems):
            number = completion.row
            row = rows.get(number)
            if row is None:
                row = rows[number] = RowSummary(number, completion.id, ending(completion.prompt))
            row.cut = row.cut or completion.truncated
            row.ungraded = row.ungraded or completion.reward is None
            row.matches = row.matches or not words or _has(completion, words)
            if completion.reward is not None:
                total, count = rewards.get(number, (0.0, 0))
                rewards[number] = (total + completion.reward, count + 1)
        for number, (total, count) in rewards.items():
            setattr(rows[number], ("before", "after")[place], total / count)
    return list(rows.values())


def _has(completion: Completion, words: str) -> bool:
    return any(words in text.lower() for text in (completion.text, completion.prompt, completion.id))


def chosen_rows(rows: Sequence[RowSummary], kind: str, order: str) -> list[RowSummary]:
    """The rows of this kind that match, in this order."""
    shown = KINDS[kind]
    return sorted((row for row in rows if row.matches and shown(row)), key=ORDERS[order])


def rewards_of(rows: Sequence[RowSummary]) -> Rewards:
    """The rewards before, and those after."""
    return (
        [row.before for row in rows if row.before is not None],
        [row.after for row in rows if row.after is not None],
    )
