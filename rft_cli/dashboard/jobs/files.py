"""The files of the folder that the dashboard was started in, to choose from. Nothing outside of it is listed."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rft_cli.errors import UsageError

MOST = 500
"""Entries of one folder that are listed."""


@dataclass(frozen=True, slots=True)
class FolderContents:
    """One folder: its path below the root (empty: the root), its folders and files, and how many are left out."""

    at: str
    folders: list[str]
    files: list[tuple[str, int]]
    left_out: int


def list_files(root: Path, at: str, endings: Collection[str] = ()) -> FolderContents:
    """The folder `at` below `root`, with files that have one of these endings.

    Hidden names are left out, and links that lead out of the root. UsageError if `at` is no folder in the root.
    """
    root = root.resolve()
    try:
        folder = (root / at).resolve()
        if not folder.is_relative_to(root) or _hidden(folder.relative_to(root)) or not folder.is_dir():
            raise UsageError(f"{at}: no folder in {root.name or root}")
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{at}: can't be listed: {reason}") from None
    folders, files = list[str](), list[tuple[str, int]]()
    for entry in entries:
        target = Path(entry.path).resolve() if entry.is_symlink() else folder / entry.name
        if entry.name.startswith(".") or not target.is_relative_to(root):
            continue
        if target.is_dir():
            folders.append(entry.name)
        elif target.is_file() and (not endings or entry.name.lower().endswith(tuple(endings))):
            files.append((entry.name, target.stat().st_size))
    left_out = max(0, len(folders) - MOST) + max(0, len(files) - MOST)
    inside = "" if folder == root else str(folder.relative_to(root))
    return FolderContents(inside, folders[:MOST], files[:MOST], left_out)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
