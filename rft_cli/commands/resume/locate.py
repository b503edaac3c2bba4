"""Finds the files and the model of a run that was copied to another place, and recognises them by their hashes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rft_cli.config import RunConfig
from rft_cli.config.flat import flat, with_settings
from rft_cli.config.hub_names import hash_of_name, hub_name
from rft_cli.config.paths import GRADER_KEYS
from rft_cli.config.scorers import split_target, split_weight
from rft_cli.data.dataset import combined_hash
from rft_cli.job import CONTENT
from rft_cli.runs import Run
from rft_cli.runs.files import sha256_of
from rft_cli.runs.model_hash import base_identity


@dataclass(frozen=True, slots=True)
class Located:
    """The configuration with the paths of today; `notes` name the files that were found elsewhere."""

    config: RunConfig
    notes: tuple[str, ...]


def find_moved_files(
    config: RunConfig, began: Mapping[str, Any], run: Run, info: Mapping[str, Any]
) -> Located:
    """Look for missing files at the same place relative to the run, in this folder, and in the run's own scorer/."""
    search = _Search(run, info)
    now = flat(config)
    if isinstance(now["grader.path"], list):
        search.scorers(now["grader.path"])
    folder = now.get("grader.folder")
    if isinstance(folder, str) and not Path(folder).is_dir():
        search.settings["grader.folder"] = os.getcwd()
        search.notes.append(f"grader.folder: {folder} is missing: scorers run in {os.getcwd()}")
    for key in (*CONTENT, "model.path"):
        value = now.get(key)
        if value != began.get(key):
            continue
        if isinstance(value, list) and key != "grader.path":
            search.files(key, value)
        elif isinstance(value, str) and os.path.isabs(value):
            search.file(key, value)
    settings = search.settings
    return Located(with_settings(config, settings) if settings else config, tuple(search.notes))


@dataclass
class _Search:
    """Collects in `settings` the paths that were found elsewhere, and in `notes` what to tell people."""

    run: Run
    info: Mapping[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def hash(self, name: str) -> str | None:
        found = (self.info.get("hashes") or {}).get(name)
        return found if isinstance(found, str) else None

    def scorers(self, paths: Sequence[str]) -> None:
        """Look for each of several scorers, which have a hash each; function and weight stay."""
        self.settings["grader.path"] = list(paths)
        for place, path in enumerate(paths):
            target, weight = split_weight(path)
            file, function = split_target(target)
            if Path(file).exists():
                continue
            # Of two scorers with one name, the copy of the second has a number.
            copies = sorted((self.run.path.absolute() / "scorer").glob("*"))
            wanted = self.hash(f"grader {place + 1}")
            others = [*self._places("grader.path", Path(file)), *copies]
            other = next((other for other in others if _identity("grader.path", other) == wanted), None)
            if other is not None:
                ending = ("" if function is None else f":{function}") + (
                    "" if weight is None else f"={weight}"
                )
                self.settings["grader.path"][place] = f"{other}{ending}"
                self._note("grader.path", path, f"{other}{ending}")

    def file(self, key: str, path: str) -> None:
        """Look for one file, or the model's directory."""
        file, function = (path, None) if key == "model.path" else split_target(path)
        wanted = self.info.get("base") if key == "model.path" else self.hash(CONTENT[key])
        if wanted is None or Path(file).exists():
            return
        other = next((o for o in self._places(key, Path(file)) if _identity(key, o) == wanted), None)
        if other is not None:
            self.settings[key] = str(other) if function is None else f"{other}:{function}"
            self._note(key, file, str(other))

    def files(self, key: str, names: list[str]) -> None:
        """Look for several files, which have one hash together: each in the first place that has its name."""
        missing = [name for name in names if os.path.isabs(name) and not Path(name).exists()]
        places = {
            file: next((str(other) for other in self._places(key, Path(file)) if other.is_file()), file)
            for file in missing
        }
        found = [places.get(name, name) for name in names]
        if not missing or any(not Path(name).is_file() for name in found if os.path.isabs(name)):
            return
        if hash_of_rows(found) == self.hash(CONTENT[key]):
            self.settings[key] = found
            for file in missing:
                self._note(key, file, places[file])

    def _note(self, key: str, missing: str, found: str) -> None:
        self.notes.append(f"{key}: {missing} is missing, the same file is at {found}")

    def _places(self, key: str, path: Path) -> Iterator[Path]:
        then = self.info.get("path")
        run = self.run.path.absolute()
        if isinstance(then, str):
            yield Path(os.path.normpath(run / os.path.relpath(path, then)))
        yield Path.cwd() / path.name
        if key in GRADER_KEYS:
            yield run / "scorer" / path.name


def hash_of_rows(names: Sequence[str]) -> str:
    """One hash of the files; a hub data set counts with its commit, configuration and split. Raises OSError."""
    return combined_hash([hash_of_name(n) if hub_name(n) is not None else sha256_of(Path(n)) for n in names])


def _identity(key: str, path: Path) -> str | None:
    if key == "model.path":
        return base_identity(str(path), None) if path.is_dir() else None
    return sha256_of(path) if path.is_file() else None
