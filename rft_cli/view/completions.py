"""The completions of a run: of one row through the steps, gains and losses, the ones without a grade.

Nothing here holds more completions than it returns: files are read line by line.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rft_cli.view.reading import ReadProblems, figure, objects

Split = Literal["validation", "test", "training"]
SPLITS: Sequence[Split] = ("validation", "test", "training")


@dataclass(frozen=True, slots=True)
class Completion:
    """One graded completion. `step`: optimizer steps done before it was sampled; `error`: why the grader failed;
    `guard`: the second grader's reward, where the run has a guard."""

    split: Split
    step: int
    row: int
    id: str
    prompt: str
    text: str
    tokens: int
    truncated: bool
    status: str
    reward: float | None
    components: Mapping[str, float]
    error: str | None = None
    trace: str = ""
    guard: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "step": self.step,
            "row": self.row,
            "id": self.id,
            "prompt": self.prompt,
            "completion": self.text,
            "tokens": self.tokens,
            "truncated": self.truncated,
            "status": self.status,
            "reward": self.reward,
            "components": dict(self.components),
            "error": self.error,
            **({} if self.guard is None else {"guard": self.guard}),
        }


@dataclass(frozen=True, slots=True)
class Change:
    """One row before and after: the mean reward of its completions, and its first completion of each side."""

    before: Completion
    after: Completion
    before_reward: float | None
    after_reward: float | None

    @property
    def gain(self) -> float | None:
        """The reward after less that before; None where one side has no grade."""
        if self.before_reward is None or self.after_reward is None:
            return None
        return self.after_reward - self.before_reward

    def to_json(self) -> dict[str, Any]:
        return {
            "gain": self.gain,
            "before_reward": self.before_reward,
            "after_reward": self.after_reward,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


def completion_of(line: Mapping[str, Any], split: Split, step: int) -> Completion | None:
    """The completion of a line of validation/ or rollouts/; None where the line has none."""
    grade, text, row = line.get("grade"), line.get("completion"), line.get("row")
    if not isinstance(grade, Mapping) or not isinstance(text, str) or not isinstance(row, int):
        return None
    error, components = grade.get("error"), grade.get("components")
    tokens = line.get("tokens")
    status, reward = str(grade.get("status")), figure(grade.get("reward"))
    return Completion(
        split=split,
        step=step,
        row=row,
        id=str(line.get("id", row)),
        prompt=str(line.get("prompt", "")),
        text=text,
        tokens=tokens if isinstance(tokens, int) else 0,
        truncated=line.get("truncated") is True,
        status="failed" if status == "graded" and reward is None else status,
        reward=reward if status == "graded" else None,
        components={
            str(name): found for name, value in _items(components) if (found := figure(value)) is not None
        },
        error=f"{error.get('kind')}: {error.get('message')}" if isinstance(error, Mapping) else None,
        trace=str(error.get("trace") or "") if isinstance(error, Mapping) else "",
        guard=_guard(line.get("guard")),
    )


def _guard(grade: object) -> float | None:
    """The reward that the second grader gave, where there is one."""
    if not isinstance(grade, Mapping) or grade.get("status") != "graded":
        return None
    return figure(grade.get("reward"))


def _items(found: object) -> Iterable[tuple[Any, Any]]:
    return found.items() if isinstance(found, Mapping) else ()


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A file of completions: `step` is the one after which it was sampled."""

    file: Path
    split: Split
    step: int


def files_of(run: Path, split: Split, best_step: int) -> list[SampleFile]:
    """The files with a split's completions, oldest step first; test rows are sampled at both ends only."""
    if split == "test":
        ends = [
            (run / "validation" / "test-before.jsonl", 0),
            (run / "validation" / "test-after.jsonl", best_step),
        ]
        return [SampleFile(file, split, step) for file, step in ends if file.is_file()]
    folder = run / ("validation" if split == "validation" else "rollouts")
    found = []
    for file in sorted(folder.glob("step-*.jsonl")):
        number = file.stem.removeprefix("step-")
        if number.isdigit():
            found.append(SampleFile(file, split, int(number)))
    return sorted(found, key=lambda sampled: sampled.step)


def completions_in(
    sampled: SampleFile, problems: ReadProblems, containing: Sequence[bytes] = ()
) -> Iterator[Completion]:
    """The completions of one file; `containing` as in `reading.objects`."""
    for line in objects(sampled.file, problems, containing):
        found = completion_of(line, sampled.split, sampled.step)
        if found is not None:
            yield found


def row_through_steps(
    run: Path, split: Split, wanted: str, best_step: int, problems: ReadProblems
) -> list[Completion]:
    """Every completion of the row with this id, or on this line of its file, oldest first."""
    names = {wanted, f"line-{wanted}"}
    hints = [_as_written(name) for name in names]
    found = []
    for sampled in files_of(run, split, best_step):
        found += [c for c in completions_in(sampled, problems, hints) if c.id in names]
    return found


def _as_written(identifier: str) -> bytes:
    """How a line of ours holds this id; one with characters that JSON may write in two ways is not searched for."""
    plain = (
        identifier.isascii() and identifier.isprintable() and '"' not in identifier and "\\" not in identifier
    )
    return f'"id": "{identifier}"'.encode() if plain else b'"id": '


def changes(run: Path, split: Split, best_step: int, problems: ReadProblems) -> list[Change]:
    """Each row of the split before and after, in the order of the file; empty where one side was never sampled."""
    found = {sampled.step: sampled for sampled in files_of(run, split, best_step)}
    if 0 not in found or best_step not in found or (split == "test" and best_step and len(found) < 2):
        return []
    before = _by_row(completions_in(found[0], problems))
    after = before if best_step == 0 else _by_row(completions_in(found[best_step], problems))
    return [
        Change(before[row].first, after[row].first, before[row].mean, after[row].mean)
        for row in sorted(before.keys() & after.keys())
    ]


@dataclass(slots=True)
class _Side:
    first: Completion
    rewards: list[float]

    @property
    def mean(self) -> float | None:
        return math.fsum(self.rewards) / len(self.rewards) if self.rewards else None


def _by_row(completions: Iterable[Completion]) -> dict[int, _Side]:
    rows: dict[int, _Side] = {}
    for completion in completions:
        row = rows.setdefault(completion.row, _Side(completion, []))
        if completion.reward is not None:
            if not row.rewards:
                row.first = completion
            row.rewards.append(completion.reward)
    return rows


def gains(found: Iterable[Change], count: int) -> list[Change]:
    """The rows that gained most, largest gain first; only rows that gained."""
    better = [change for change in found if (change.gain or 0.0) > 0]
    return heapq.nlargest(count, better, key=lambda change: change.gain or 0.0)


def losses(found: Iterable[Change], count: int) -> list[Change]:
    """The rows that lost most, largest loss first; only rows that lost."""
    worse = [change for change in found if (change.gain or 0.0) < 0]
    return heapq.nsmallest(count, worse, key=lambda change: change.gain or 0.0)


def worst(found: Iterable[Change], count: int) -> list[Change]:
    """The rows with the lowest reward after; of equal ones those that lost most come first."""
    graded = [change for change in found if change.after_reward is not None]
    return heapq.nsmallest(count, graded, key=lambda change: (change.after_reward, change.gain or 0.0))


@dataclass(frozen=True, slots=True)
class Ungraded:
    """Completions without a grade: how many of each status, the commonest reasons, and the first few completions."""

    counts: Mapping[str, int]
    reasons: Sequence[tuple[str, int]]
    completions: Sequence[Completion]

    def to_json(self) -> dict[str, Any]:
        return {
            "counts": dict(self.counts),
            "reasons": [{"reason": reason, "count": count} for reason, count in self.reasons],
            "completions": [completion.to_json() for completion in self.completions],
        }


MOST_REASONS = 1000
"""Different reasons that are counted apart: a scorer may put the completion into its message."""
UNGRADED = (b'"status": "failed"', b'"status": "skipped"')
"""What the line of a completion without a grade holds one of."""


def ungraded(run: Path, best_step: int, problems: ReadProblems, most: int) -> Ungraded:
    """What the grader failed on or skipped, in training and validations; the first `most` completions."""
    counts = {"failed": 0, "skipped": 0}
    reasons: dict[str, int] = {}
    kept: list[Completion] = []
    for split in SPLITS:
        for sampled in files_of(run, split, best_step):
            for found in completions_in(sampled, problems, UNGRADED):
                if found.status not in counts:
                    continue
                counts[found.status] += 1
                if found.error is not None:
                    reason = (
                        found.error if found.error in reasons or len(reasons) < MOST_REASONS else "others"
                    )
                    reasons[reason] = reasons.get(reason, 0) + 1
                if len(kept) < most:
                    kept.append(found)
    commonest = sorted(reasons.items(), key=lambda item: -item[1])[:10]
    return Ungraded(counts, commonest, kept)
