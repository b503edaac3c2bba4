"""Two to five runs side by side: results, paired differences on common rows, settings that differ."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft_cli.errors import UsageError
from rft_cli.report.estimates import mean_ci
from rft_cli.types import Estimate
from rft_cli.view.completions import Split, completions_in, files_of
from rft_cli.view.overview import Overview
from rft_cli.view.reading import ReadProblems

FEWEST, MOST = 2, 5
_OWN = ("model.path", "name", "output_dir", "num_processes", "grader.folder")


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of `run` less that of the first run, paired by row."""

    run: str
    figure: str
    rows: int
    first: Estimate
    other: Estimate
    difference: Estimate

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "figure": self.figure,
            "rows": self.rows,
            "first": self.first.to_json(),
            "other": self.other.to_json(),
            "difference": self.difference.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Compared:
    """`split`: the rows that are compared; `settings`: key → the value of each run, where they differ.

    `notes`: what makes the comparison less than it looks; `verdicts`: a line for each run but the first.
    """

    runs: Sequence[Overview]
    split: str
    differences: Sequence[Difference]
    settings: Mapping[str, Sequence[Any]]
    notes: Sequence[str]
    verdicts: Sequence[str]

    def setting_texts(self) -> dict[str, list[str]]:
        """The settings that differ as a configuration writes them: null, true, [1, 2]; text as it is."""
        return {
            key: [
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values
            ]
            for key, values in self.settings.items()
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "rft.compare/1",
            "split": self.split or None,
            "runs": [
                {
                    **run.entry.to_json(),
                    "measured": {name: found.to_json() for name, found in run.measured.items()},
                    "diagnosis": [found.to_json() for found in run.diagnosis],
                    "gaming": run.part("gaming"),
                    "guard": run.part("guard"),
                }
                for run in self.runs
            ],
            "differences": [difference.to_json() for difference in self.differences],
            "verdicts": list(self.verdicts),
            "settings": {key: list(values) for key, values in self.settings.items()},
            "notes": list(self.notes),
        }


def compare_runs(runs: Sequence[Overview]) -> Compared:
    """The runs against the first of them. Raises UsageError for fewer than two or more than five."""
    if not FEWEST <= len(runs) <= MOST:
        raise UsageError(
            f"{len(runs)} run{'s' if len(runs) != 1 else ''} given", f"compare {FEWEST} to {MOST} runs"
        )
    labels = _labels(runs)
    problems = ReadProblems()
    split = _common_split(runs)
    measured = [_row_values(run, split, problems) for run in runs] if split else [{} for _ in runs]
    differences = [
        found
        for place in range(1, len(runs))
        for found in _differences(labels[place], measured[0], measured[place])
    ]
    compared = {found.run for found in differences}
    notes = [*_notes(runs), *problems.texts]
    notes += [
        f"{label} has no graded row in common with {labels[0]}"
        for label in labels[1:]
        if label not in compared
    ]
    rewards = [found for found in differences if found.figure == "reward"]
    return Compared(
        runs,
        split or "",
        differences,
        _settings(runs),
        notes,
        [_verdict(found, labels[0]) for found in rewards],
    )


def _labels(runs: Sequence[Overview]) -> list[str]:
    names = [run.entry.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.entry.path) for run in runs]


def _common_split(runs: Sequence[Overview]) -> Split | None:
    """The test rows where every run sampled them, else the validation rows."""
    splits: Sequence[Split] = ("test", "validation")
    for split in splits:
        if all(_after(run, split) is not None for run in runs):
            return split
    return None


def _after(run: Overview, split: Split) -> Any:
    """The file of the best checkpoint's completions, the base's where nothing beat it; None without any."""
    best = run.entry.best_step
    found = [sampled for sampled in files_of(run.entry.path, split, best) if sampled.step == best]
    return found[-1] if found else None


RowValues = dict[str, dict[tuple[str, str], list[float]]]
"""Figure → row, by its id and prompt → values of its completions."""


def _row_values(run: Overview, split: Split, problems: ReadProblems) -> RowValues:
    sampled = _after(run, split)
    found: RowValues = {}
    for completion in completions_in(sampled, problems):
        if completion.reward is None:
            continue
        row = (completion.id, completion.prompt)
        guard = {} if completion.guard is None else {"guard": completion.guard}
        for name, value in {"reward": completion.reward, **guard, **completion.components}.items():
            found.setdefault(name, {}).setdefault(row, []).append(value)
    return found


def _differences(label: str, first: RowValues, other: RowValues) -> list[Difference]:
    found = []
    for name in first:
        rows = [row for row in first[name] if row in other.get(name, {})]
        if not rows:
            continue
        one = [_mean(first[name][row]) for row in rows]
        two = [_mean(other[name][row]) for row in rows]
        paired = mean_ci([b - a for a, b in zip(one, two, strict=True)])
        found.append(Difference(label, name, len(rows), mean_ci(one), mean_ci(two), paired))
    return found


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _verdict(found: Difference, first: str) -> str:
    low, high = found.difference.ci95
    if low > 0:
        said = f"{found.run} is better than {first}"
    elif high < 0:
        said = f"{found.run} is worse than {first}"
        low, high = -high, -low
    else:
        return (
            f"{found.run} and {first} can't be told apart: the interval of their difference includes 0 "
            f"({found.difference.mean:+.3f} [{low:+.3f}, {high:+.3f}] on {found.rows} rows)."
        )
    return f"{said} by {abs(found.difference.mean):.3f} [{low:+.3f}, {high:+.3f}] on {found.rows} rows."


def _settings(runs: Sequence[Overview]) -> dict[str, list[Any]]:
    every = [{"model": run.info.get("model"), **(run.info.get("settings") or {})} for run in runs]
    # A setting that one run's version of rft did not know has no value there to compare.
    keys = [key for key in every[0] if key not in _OWN and all(key in settings for settings in every)]
    found = {key: [settings[key] for settings in every] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def _notes(runs: Sequence[Overview]) -> list[str]:
    notes = []
    for what, said in (
        ("grader", "the graders differ: rewards of different graders have different scales"),
        ("guard", "the guards differ: their figures have different scales"),
        ("validation", "the validation files differ: only rows with the same id and prompt are compared"),
    ):
        seen = {(run.info.get("hashes") or {}).get(what) for run in runs}
        if len(seen - {None} if what == "guard" else seen) > 1:
            notes.append(said)
    notes += [
        f"{run.entry.name} is not finished ({run.entry.status}): its best checkpoint so far is compared"
        for run in runs
        if run.entry.status != "finished"
    ]
    notes += [
        f"{run.entry.name}: {run.entry.doubt}, so its reward is no measure of what it learned"
        for run in runs
        if run.entry.doubt
    ]
    return notes
