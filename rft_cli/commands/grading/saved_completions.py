"""Saves the completions of `rft validate` as rows that `rft grade` reads, because sampling takes the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rft_cli.runs.create import free_name
from rft_cli.runs.files import write_lines
from rft_cli.types import Example, Sample

FOLDER = "validations"
"""The folder beside the runs."""


def save_completions(
    beside: Path,
    model: str,
    samples: Mapping[str, Sequence[Sample]],
    examples: Sequence[Example],
    warn: Callable[[str], None],
) -> list[str]:
    """Write `samples`, one file a name, into a new folder in `beside`; returns the files' paths.

    Where the folder can't be written, `warn` gets a message, and there are no paths.
    """
    parent = beside.expanduser() / FOLDER
    files: list[str] = []
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / free_name(model, parent)
        folder.mkdir()
        for name, sampled in samples.items():
            write_lines(folder / f"{name}.jsonl", _rows(sampled, examples))
            files.append(str(folder / f"{name}.jsonl"))
    except OSError as error:
        warn(f"the completions could not be kept in {parent}: {error.strerror or error}")
    return files


def _rows(samples: Sequence[Sample], examples: Sequence[Example]) -> Iterator[dict[str, Any]]:
    """Each row as the data file has it, with the completion, its grade, and what else is known of the sample."""
    for sample in samples:
        others = sample.to_json()
        completion, grade = others.pop("completion"), others.pop("grade")
        yield {**examples[sample.row].fields, "completion": completion, "grade": grade, "sample": others}
