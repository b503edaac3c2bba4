"""What of a run directory is on disk, as a short text that changes whenever it does: the ETag of its pages."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rft_cli.errors import UsageError
from rft_cli.runs.lock import check_free

WATCHED = (".", "validation", "scorer")
"""Folders of a run whose files count, each with its size and time."""
SAMPLED = ("validation", "rollouts")
"""Those with completions."""


def state_of(run: Path, folders: Sequence[str] = WATCHED, *, without: str = "") -> str:
    """The state of these folders of the run, but for the file `without`."""
    found: list[str] = []
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(run / folder) as entries:
            found += sorted(
                f"{folder}/{entry.name} {_stamp(entry)}"
                for entry in entries
                # hidden: the lock, and what is being written
                if entry.name != without and not entry.name.startswith(".")
            )
    return digest([*found, "free" if _is_free(run) else "written"])


def digest(parts: Iterable[object]) -> str:
    """A short text for these values, in this order."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _stamp(entry: os.DirEntry[str]) -> str:
    try:
        stat = entry.stat(follow_symlinks=False)
    except OSError:
        return "gone"
    return f"{stat.st_mtime_ns} {stat.st_size}"


def _is_free(run: Path) -> bool:
    # A job that was killed writes no status: what it leaves is the lock that nobody holds.
    try:
        check_free(run)
    except UsageError:
        return False
    return True
