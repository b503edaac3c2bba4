"""Files of a run, read while they may be half-written, damaged or deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rft_cli.config.suggest import counted
from rft_cli.report.facts import is_number

LARGEST = 1e290


class ReadProblems:
    """What could not be read, each file once, in words."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def add(self, file: Path, why: str) -> None:
        """`why` this file, or a part of it, is left out."""
        self._found.setdefault(str(file), f"{file.parent.name}/{file.name}: {why}")

    @property
    def texts(self) -> list[str]:
        """One line for each file."""
        return list(self._found.values())


def objects(file: Path, problems: ReadProblems, containing: Sequence[bytes] = ()) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, a line each; damaged lines are left out and counted in `problems`.

    `containing`: only lines with one of these are parsed, for files that are too large to parse whole.
    """
    bad, line = 0, b""
    try:
        with file.open("rb") as lines:
            for line in lines:
                if containing and not any(part in line for part in containing):
                    continue
                row = parsed(line)
                if row is not None:
                    yield row
                elif line.endswith(b"\n") and line.strip():  # else it is being written
                    bad += 1
    except FileNotFoundError:
        return
    except OSError as error:
        problems.add(file, f"can't be read: {error.strerror or error}")
    if bad:
        problems.add(file, f"{counted(bad, 'damaged line')} left out")


def parsed(line: bytes) -> dict[str, Any] | None:
    """The JSON object of this line; None where it is damaged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def text_of(file: Path, problems: ReadProblems, most: int = 100_000) -> str:
    """The beginning of a text file; empty where it is missing."""
    try:
        with file.open("rb") as opened:
            return opened.read(most).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        problems.add(file, f"can't be read: {error.strerror or error}")
        return ""


def figure(value: object) -> float | None:
    """The finite number that this is; None for anything else. Larger than 1e290 counts as that: sums must hold it."""
    if is_number(value):
        return max(-LARGEST, min(LARGEST, float(value)))
    return None
