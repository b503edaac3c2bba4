"""A run's rewards in the format that the hub reads from a model card (`model-index`), and the hashes of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rft_cli.report.estimates import compare
from rft_cli.report.pairs import Pair

HASHED = ("train", "validation", "test", "grader")


def model_index(name: str, pairs: Sequence[Pair], hashes: Mapping[str, str]) -> list[dict[str, Any]]:
    """One model with a result for each set of rows: the mean reward after training, before it in the arguments."""
    results = []
    for pair in pairs:
        found = compare(pair.before, pair.after)
        results.append(
            {
                "task": {"type": "text-generation"},
                "dataset": {
                    "name": f"{pair.split} rows",
                    "type": "private",
                    "split": pair.split,
                    "args": {"sha256": hashes.get(pair.split), "rows": found.after.n},
                },
                "metrics": [
                    {
                        "type": "reward",
                        "name": "mean reward",
                        "value": round(found.after.mean, 6),
                        "args": {
                            "ci95": [round(bound, 6) for bound in found.after.ci95],
                            "before": round(found.before.mean, 6),
                            "difference": round(found.difference.mean, 6),
                            "difference_ci95": [round(bound, 6) for bound in found.difference.ci95],
                        },
                    }
                ],
            }
        )
    return [{"name": name, "results": results}] if results else []


def hash_rows(hashes: Mapping[str, str]) -> list[str]:
    """Lines of the card's table: the SHA-256 of the rows' files and of the grader."""
    names = {
        "train": "training rows",
        "validation": "validation rows",
        "test": "test rows",
        "grader": "grader",
    }
    return [f"| {names[key]} | sha256 `{hashes[key]}` |" for key in HASHED if hashes.get(key)]
