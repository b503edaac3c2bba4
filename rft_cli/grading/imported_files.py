"""The user's files that a scorer imports: a change in them changes grades as a change of the scorer does."""

from __future__ import annotations

import ast
from pathlib import Path

from rft_cli.runs.files import sha256_of


def imported_files(scorer: Path, home: Path | None = None) -> dict[str, str]:
    """SHA-256 of every file that `scorer` imports from its folder or from `home`, or that those import.

    By the path inside the folder. Found by reading the source: imports by a computed name, and files read as data, are
    not found.
    """
    folders = [scorer.parent, *(() if home is None or home == scorer.parent else (home,))]
    found: dict[str, str] = {}
    waiting = [(scorer, scorer.parent)]
    while waiting:
        importing, inside = waiting.pop()
        for name in _imported_names(importing, inside):
            folder, files = next(
                ((each, files) for each in folders if (files := _files(each, name))), (inside, [])
            )
            for file in files:
                key = file.relative_to(folder).as_posix()
                if key not in found and file != scorer:
                    found[key] = sha256_of(file)
                    waiting.append((file, folder))
    return dict(sorted(found.items()))


def _imported_names(file: Path, folder: Path) -> list[str]:
    """Dotted names of what the file, which lies somewhere in `folder`, imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError):
        return []
    packages = file.parent.relative_to(folder).parts
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            outer = packages[: max(0, len(packages) - (node.level - 1))] if node.level else ()
            start = ".".join([*outer, *([node.module] if node.module else [])])
            names += [start, *(f"{start}.{alias.name}".lstrip(".") for alias in node.names)]
    return names


def _files(folder: Path, name: str) -> list[Path]:
    """The files in `folder` that importing the dotted `name` runs: packages on the way, then the module."""
    found, path = [], folder
    for part in [part for part in name.split(".") if part]:
        path = path / part
        found += [file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()]
    return found
