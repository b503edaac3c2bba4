"""One row through the steps: its completions at each validated checkpoint, or in each rollout batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rft_cli.view.completions import Completion, Split, completions_in, files_of
from rft_cli.view.reading import ReadProblems

MOST = 60
"""Completions of a row that are shown side by side."""


@dataclass(frozen=True, slots=True)
class RowHistory:
    """`completions`, oldest step first, are those of `total` that are shown."""

    completions: Sequence[Completion]
    total: int


def row_history(
    run: Path, split: Split, row: int, best_step: int, problems: ReadProblems, most: int = MOST
) -> RowHistory:
    """The completions of the row with this number in its file.

    Of more than `most` those with the highest and lowest reward of each step, of more steps evenly chosen ones: the
    first, the last and the best step are among them.
    """
    hint = [f'"row": {row},'.encode()]
    steps: dict[int, list[Completion]] = {}
    total = 0
    for sampled in files_of(run, split, best_step):
        group = [c for c in completions_in(sampled, problems, hint) if c.row == row]
        if group:
            total += len(group)
            steps.setdefault(sampled.step, []).extend(
                group if len(group) <= most else lowest_and_highest(group)
            )
    if sum(map(len, steps.values())) > most:
        steps = {step: lowest_and_highest(group) for step, group in steps.items()}
    if sum(map(len, steps.values())) > most:
        steps = {step: steps[step] for step in _spread(list(steps), most // 2, best_step)}
    return RowHistory([completion for group in steps.values() for completion in group], total)


def lowest_and_highest(group: Sequence[Completion]) -> list[Completion]:
    """The completions with the highest and the lowest reward; one where they are equal."""
    ranked = sorted(group, key=lambda c: (c.reward is not None, c.reward or 0.0))
    return [ranked[-1]] if ranked[0].reward == ranked[-1].reward else [ranked[-1], ranked[0]]


def _spread(steps: Sequence[int], most: int, best_step: int) -> list[int]:
    if len(steps) <= most:
        return list(steps)
    places = {round(place * (len(steps) - 1) / (most - 1)) for place in range(most)}
    return [step for place, step in enumerate(steps) if place in places or step == best_step]
