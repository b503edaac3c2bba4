"""The files that a scorer imports from its own folder: they decide grades as the scorer itself does."""

from __future__ import annotations

import ast
from pathlib import Path

from rft_cli.runs.files import sha256_of


def local_modules(scorer: Path) -> dict[str, str]:
    """SHA-256 of every file beside `scorer` that it imports, or that those import: path inside the folder -> hash.

    Found by reading the source: what is imported by a computed name, or read as data, is not seen.
    """
    folder, found = scorer.parent, dict[str, str]()
    waiting = [scorer]
    while waiting:
        for file in _imported(waiting.pop(), folder):
            name = file.relative_to(folder).as_posix()
            if name not in found and file != scorer:
                found[name] = sha256_of(file)
                waiting.append(file)
    return dict(sorted(found.items()))


def _imported(file: Path, folder: Path) -> list[Path]:
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
    return [path for name in names for path in _files(folder, name)]


def _depth(file: Path, folder: Path, level: int) -> int:
    return max(0, len(file.parent.relative_to(folder).parts) - (level - 1))


def _files(folder: Path, name: str) -> list[Path]:
    """What importing the dotted `name` runs, as far as it lies in `folder`: packages on the way, then the module."""
    found, path = [], folder
    for part in [part for part in name.split(".") if part]:
        path = path / part
        found += [file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()]
    return found
