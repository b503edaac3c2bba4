"""The user's files that a scorer imports: they decide grades as the scorer itself does."""

from __future__ import annotations

import ast
from pathlib import Path

from rft_cli.runs.files import sha256_of


def local_modules(scorer: Path, home: Path | None = None) -> dict[str, str]:
    """SHA-256 of every file that `scorer` imports from its folder or from `home`, or that those import.

    By the path inside the folder. Found by reading the source: what is imported by a computed name, or read as data, is
    not seen.
    """
    folders = [scorer.parent, *(() if home is None or home == scorer.parent else (home,))]
    found: dict[str, str] = {}
    waiting = [(scorer, scorer.parent)]
    while waiting:
        importing, inside = waiting.pop()
        names = _names(importing, inside)
        for name in names:
            folder = next((folder for folder in folders if _files(folder, name)), None)
            for file in () if folder is None else _files(folder, name):
                key = file.relative_to(folder).as_posix()  # type: ignore[arg-type]
                if key not in found and file != scorer:
                    found[key] = sha256_of(file)
                    waiting.append((file, folder))  # type: ignore[arg-type]
    return dict(sorted(found.items()))


def _names(file: Path, folder: Path) -> list[str]:
    """Dotted names of what the file, which lies somewhere in `folder`, imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError):
        return []
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inside = (
                file.parent.relative_to(folder).parts[: _depth(file, folder, node.level)]
                if node.level
                else ()
            )
            start = ".".join([*inside, *([node.module] if node.module else [])])
            names += [start, *(f"{start}.{alias.name}".lstrip(".") for alias in node.names)]
    return names


def _depth(file: Path, folder: Path, level: int) -> int:
    return max(0, len(file.parent.relative_to(folder).parts) - (level - 1))


def _files(folder: Path, name: str) -> list[Path]:
    """What importing the dotted `name` runs, as far as it lies in `folder`: packages on the way, then the module."""
    found, path = [], folder
    for part in [part for part in name.split(".") if part]:
        path = path / part
        found += [file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()]
    return found
