"""A run that was copied to another place: its files and its model are looked for, and known by their hashes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft_cli.config import RunConfig
from rft_cli.config.flat import flat, with_settings
from rft_cli.config.hub_names import hash_of_name, hub_name
from rft_cli.config.scorers import split_target, split_weight
from rft_cli.data.dataset import combined_hash
from rft_cli.job import CONTENT
from rft_cli.runs import Run
from rft_cli.runs.files import sha256_of
from rft_cli.runs.identity import base_identity


@dataclass(frozen=True, slots=True)
class Moved:
    """The configuration with the paths that hold now; `notes` name those that were found elsewhere."""

    config: RunConfig
    notes: tuple[str, ...]


def found_again(config: RunConfig, began: Mapping[str, Any], run: Run, info: Mapping[str, Any]) -> Moved:
    """Look for what is not where it was: beside the run as it was then, in this folder, and the run's own scorer."""
    now, settings, notes = flat(config), dict[str, Any](), list[str]()
    hashes = info.get("hashes") or {}
    for place, path in enumerate(now["grader.path"] if isinstance(now["grader.path"], list) else (), 1):
        found = _scorer_again(path, hashes.get(f"grader {place}"), run, info)
        settings["grader.path"] = [*settings.get("grader.path", []), path if found is None else found]
        if found is not None:
            notes.append(f"grader.path: {path} is not there, the same is found at {found}")
    folder = now.get("grader.folder")
    if isinstance(folder, str) and not Path(folder).is_dir():
        settings["grader.folder"] = os.getcwd()
        notes.append(f"grader.folder: {folder} is not there: scorers run in {settings['grader.folder']}")
    for key in (*CONTENT, "model.path"):
        value = now.get(key)
        if isinstance(value, list) and value == began.get(key):
            _find_each(key, value, run, info, settings, notes)
        if not isinstance(value, str) or value != began.get(key) or not os.path.isabs(value):
            continue
        file, function = (value, None) if key == "model.path" else split_target(value)
        if Path(file).exists():
            continue
        for other in _elsewhere(key, Path(file), run, info):
            if _identity(key, other) == (
                info.get("base") if key == "model.path" else hashes.get(CONTENT[key])
            ):
                settings[key] = str(other) if function is None else f"{other}:{function}"
                notes.append(f"{key}: {file} is not there, the same is found at {other}")
                break
    return Moved(with_settings(config, settings) if settings else config, tuple(notes))


def _scorer_again(path: str, sha256: str | None, run: Run, info: Mapping[str, Any]) -> str | None:
    """Where one of several scorers lies now, with its function and weight; None where it is in its place, or lost."""
    target, weight = split_weight(path)
    file, function = split_target(target)
    if Path(file).exists():
        return None
    kept = sorted((run.path.absolute() / "scorer").glob("*"))  # of two with one name the second has a number
    places = [*_elsewhere("grader.path", Path(file), run, info), *kept]
    other = next((place for place in places if _identity("grader.path", place) == sha256), None)
    if other is None:
        return None
    return f"{other}{'' if function is None else f':{function}'}{'' if weight is None else f'={weight}'}"


def _find_each(
    key: str, files: list[str], run: Run, info: Mapping[str, Any], settings: dict[str, Any], notes: list[str]
) -> None:
    """Look for several files, whose one hash is known: each in the first place where one of its name lies."""
    missing = [file for file in files if os.path.isabs(file) and not Path(file).exists()]
    if not missing:
        return
    places = {
        file: next((str(other) for other in _elsewhere(key, Path(file), run, info) if other.is_file()), file)
        for file in missing
    }
    found = [places.get(file, file) for file in files]
    if any(not Path(file).is_file() for file in found if os.path.isabs(file)):
        return
    if hash_of_rows(found) == (info.get("hashes") or {}).get(CONTENT[key]):
        settings[key] = found
        notes += [f"{key}: {file} is not there, the same is found at {places[file]}" for file in missing]


def hash_of_rows(names: Sequence[str]) -> str:
    """Of a file its bytes'; of a data set of the hub what stands for its commit, configuration and split. OSError."""
    return combined_hash([hash_of_name(n) if hub_name(n) is not None else sha256_of(Path(n)) for n in names])


def _elsewhere(key: str, path: Path, run: Run, info: Mapping[str, Any]) -> Iterator[Path]:
    then = info.get("path")
    if isinstance(then, str):
        yield Path(os.path.normpath(run.path.absolute() / os.path.relpath(path, then)))
    yield Path.cwd() / path.name
    if key == "grader.path":
        yield run.path.absolute() / "scorer" / path.name


def _identity(key: str, path: Path) -> str | None:
    if key == "model.path":
        return base_identity(str(path), None) if path.is_dir() else None
    return sha256_of(path) if path.is_file() else None
