"""Problems that `rft grade` finds before it grades a row, reported together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rft_cli.config.hub_names import hub_name
from rft_cli.data.rows import open_rows
from rft_cli.errors import UsageError


def unreadable(files: Sequence[str]) -> list[UsageError]:
    """The problem of each file of rows that can't be opened. Pipes are not tried: opening one would wait."""
    problems = []
    for file in files:
        path = Path(file)
        if file != "-" and hub_name(file) is None and (path.is_file() or path.is_dir() or not path.exists()):
            try:
                open_rows(file).close()
            except UsageError as problem:
                problems.append(problem)
    return problems
