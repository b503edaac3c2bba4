"""Data files: a row → Example.

Grader workers read rows too, so the names here load what they need on first use: workers need no settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rft_cli.data.dataset import Dataset, prompt_for, read_examples
    from rft_cli.data.demonstrations import demonstration_of, without_demonstration
    from rft_cli.data.examples import Joined
    from rft_cli.data.formats import FORMATS, Format
    from rft_cli.data.json_line import Row
    from rft_cli.data.overlap import Checked, Overlap, apply_overlap, find_overlap
    from rft_cli.data.references import reference_of, solution_of
    from rft_cli.data.rows import Problems, RowReader, read_rows, read_rows_from_bytes
    from rft_cli.data.words import BadRow

__all__ = [
    "FORMATS",
    "BadRow",
    "Checked",
    "Dataset",
    "Format",
    "Joined",
    "Overlap",
    "Problems",
    "Row",
    "RowReader",
    "apply_overlap",
    "demonstration_of",
    "find_overlap",
    "prompt_for",
    "read_examples",
    "read_rows",
    "read_rows_from_bytes",
    "reference_of",
    "solution_of",
    "without_demonstration",
]

_HOMES = {
    **dict.fromkeys(("Dataset", "prompt_for", "read_examples"), "dataset"),
    **dict.fromkeys(("demonstration_of", "without_demonstration"), "demonstrations"),
    "BadRow": "words",
    **dict.fromkeys(("FORMATS", "Format"), "formats"),
    **dict.fromkeys(("reference_of", "solution_of"), "references"),
    **dict.fromkeys(("Checked", "Overlap", "apply_overlap", "find_overlap"), "overlap"),
    "Joined": "examples",
    "Row": "json_line",
    **dict.fromkeys(("Problems", "RowReader", "read_rows", "read_rows_from_bytes"), "rows"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
