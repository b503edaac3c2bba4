"""The completions that go into a page: the rows that say most, through the steps, up to a number of characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from rft_cli.view.comparing import Compared
from rft_cli.view.completions import (
    Change,
    Completion,
    Split,
    changes,
    completions_in,
    files_of,
    gains,
    losses,
    worst,
)
from rft_cli.view.reading import ReadProblems
from rft_cli.view.row_history import lowest_and_highest
from rft_cli.view.visible import visible

MOST_TEXT = 1500
"""Characters of a completion or prompt in a page."""
MOST_ROWS = 150
"""Rows of a split in a page."""
TRAINING_ROWS = 16
"""Training rows that are followed through the steps."""
BUDGET: dict[Split, int] = {"validation": 170_000, "test": 60_000, "training": 60_000}
"""Characters of each split in a page."""
_OVERHEAD = 90
"""Characters that a completion costs in a page beside its text."""


@dataclass(slots=True)
class ShownRow:
    """One row through the steps. Texts that repeat are kept once: `shots` name them by their place in `texts`."""

    split: Split
    id: str
    prompt: str
    before: float | None = None
    after: float | None = None
    texts: list[str] = field(default_factory=list)
    shots: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0

    def add(self, completion: Completion, label: str | None = None) -> None:
        """Add a completion, cut and made harmless; `label` says where it is from, if not from a step."""
        text = visible(completion.text, MOST_TEXT)
        if text not in self.texts:
            self.texts.append(text)
            self.size += len(text)
        self.size += _OVERHEAD
        shot: dict[str, Any] = {
            "step": completion.step,
            "text": self.texts.index(text),
            "tokens": completion.tokens,
        }
        if label is not None:
            shot["label"] = label
        if completion.reward is None:
            shot["status"] = completion.status
            shot["error"] = visible(completion.error or "", 300)
        else:
            shot["reward"] = float(f"{completion.reward:.5g}")
        if completion.truncated:
            shot["cut"] = True
        if completion.components:
            named = list(completion.components.items())[:20]
            shot["components"] = {visible(name, 60): float(f"{value:.4g}") for name, value in named}
            self.size += sum(len(name) + 10 for name, _ in named)
        self.shots.append(shot)

    def to_json(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "id": self.id,
            "prompt": self.prompt,
            "before": self.before,
            "after": self.after,
            "texts": self.texts,
            "shots": self.shots,
        }


@dataclass(frozen=True, slots=True)
class Excerpt:
    """`rows` are in the page; of `total` rows of each split that the run has. `rewards`: split → before, after."""

    rows: Sequence[ShownRow]
    total: dict[Split, int]
    rewards: dict[Split, tuple[list[float], list[float]]]

    def shown(self, split: Split) -> int:
        """How many rows of the split are in the page."""
        return sum(row.split == split for row in self.rows)


def read_excerpt(run: Path, best_step: int, problems: ReadProblems) -> Excerpt:
    """The excerpt of a run: gains, losses and low rewards first, then the others; of training rows the first ones."""
    rows: list[ShownRow] = []
    total: dict[Split, int] = {}
    rewards: dict[Split, tuple[list[float], list[float]]] = {}
    splits: Sequence[Split] = ("validation", "test")
    for split in splits:
        found = changes(run, split, best_step, problems)
        if not found:
            continue
        total[split] = len(found)
        rewards[split] = (
            [c.before_reward for c in found if c.before_reward is not None],
            [c.after_reward for c in found if c.after_reward is not None],
        )
        rows += _within(_followed(run, split, best_step, _by_interest(found), problems), BUDGET[split])
    training = _training(run, problems)
    if training:
        total["training"] = len(training)
        rows += _within(training, BUDGET["training"])
    return Excerpt(rows, total, rewards)


def read_common(compared: Compared) -> list[ShownRow]:
    """The rows that all runs share, with each run's completion beside the first run's base; by how far they differ."""
    split, runs = compared.split, compared.runs
    if split not in ("test", "validation"):
        return []
    chosen: Split = "test" if split == "test" else "validation"
    problems = ReadProblems()
    found = [
        {
            (c.after.id, c.after.prompt): c
            for c in changes(run.entry.path, chosen, run.entry.best_step, problems)
        }
        for run in runs
    ]
    rows = []
    for key in found[0]:
        sides = [by_row.get(key) for by_row in found]
        if None in sides:
            continue
        changed = [side for side in sides if side is not None]
        row = ShownRow(chosen, visible(key[0], 100), visible(key[1], MOST_TEXT))
        row.before, row.after = changed[0].after_reward, changed[-1].after_reward
        row.add(changed[0].before, "base")
        for run, side in zip(runs, changed, strict=True):
            row.add(side.after, visible(run.entry.name, 60))
        rows.append(row)
    rows.sort(key=lambda row: -abs((row.after or 0.0) - (row.before or 0.0)))
    return _within(rows[: 2 * MOST_ROWS], sum(BUDGET.values()))


def _by_interest(found: Sequence[Change]) -> list[Change]:
    """In turn the largest gains, losses and lowest rewards; then what is left, in the order of the file."""
    most = len(found)
    turns = zip_longest(gains(found, most), losses(found, most), worst(found, most))
    seen: dict[int, Change] = {}
    for change in chain((c for turn in turns for c in turn if c is not None), found):
        seen.setdefault(change.after.row, change)
    return list(seen.values())[:MOST_ROWS]


def _followed(
    run: Path, split: Split, best_step: int, chosen: Sequence[Change], problems: ReadProblems
) -> list[ShownRow]:
    rows = {
        c.after.row: ShownRow(
            split,
            visible(c.after.id, 100),
            visible(c.after.prompt, MOST_TEXT),
            c.before_reward,
            c.after_reward,
        )
        for c in chosen
    }
    for sampled in files_of(run, split, best_step):
        for completion in completions_in(sampled, problems):
            if completion.row in rows:
                rows[completion.row].add(completion)
    return list(rows.values())


def _training(run: Path, problems: ReadProblems) -> list[ShownRow]:
    """The rows of the first rollout batch, with a completion of the highest and one of the lowest reward a step."""
    files = files_of(run, "training", 0)
    if not files:
        return []
    first = list({c.row: None for c in completions_in(files[0], problems)})[:TRAINING_ROWS]
    hints = [f'"row": {row},'.encode() for row in first]
    rows: dict[int, ShownRow] = {}
    for sampled in files:
        groups: dict[int, list[Completion]] = {}
        for completion in completions_in(sampled, problems, hints):
            if completion.row in first:
                groups.setdefault(completion.row, []).append(completion)
        for number, group in groups.items():
            known = rows.setdefault(
                number, ShownRow("training", visible(group[0].id, 100), visible(group[0].prompt, MOST_TEXT))
            )
            for completion in lowest_and_highest(group):
                known.add(completion)
            means = [c.reward for c in group if c.reward is not None]
            mean = sum(means) / len(means) if means else None
            known.before, known.after = (mean if known.before is None else known.before), mean
    return list(rows.values())


def _within(rows: Iterable[ShownRow], budget: int) -> list[ShownRow]:
    """As many of the rows, in their order, as fit into the budget; at least one."""
    kept: list[ShownRow] = []
    for row in rows:
        budget -= row.size + len(row.prompt)
        if budget < 0 and kept:
            break
        kept.append(row)
    return kept
