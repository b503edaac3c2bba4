"""A validation's completions as a table of the tracker; TensorBoard has none."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from rft_cli.types import Sample

MOST_ROWS = 50
"""Completions of a validation that go into a table: always those of the first rows, to be compared over steps."""


def log_table(tracker: str, step: int, samples: Sequence[Sample]) -> None:
    """Report the first completions of the validation after `step`."""
    columns = _columns(step, samples)
    if tracker == "mlflow":
        import_module(tracker).log_table(columns, artifact_file=f"completions/step-{step:06d}.json")
    elif tracker in ("wandb", "trackio"):
        module = import_module(tracker)
        # datasets needs it too
        frame = import_module("pandas").DataFrame(columns)
        module.log({"completions": module.Table(dataframe=frame), "train/global_step": step})


def _columns(step: int, samples: Sequence[Sample]) -> dict[str, list[Any]]:
    shown = sorted(samples, key=lambda sample: sample.row)[:MOST_ROWS]
    return {
        "step": [step] * len(shown),
        "row": [sample.example_id for sample in shown],
        "prompt": [sample.prompt for sample in shown],
        "completion": [sample.completion for sample in shown],
        "reward": [sample.grade.reward for sample in shown],
        "status": [sample.grade.status for sample in shown],
    }
