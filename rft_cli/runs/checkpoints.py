"""Checkpoints exist only once committed: files flushed, manifest written, then one rename.

A directory `checkpoints/step-N` with a manifest is a checkpoint; everything else is unfinished work of a process that
died, and is never listed. The manifest holds each file's size and SHA-256, because a flipped bit in a weights file
loads without complaint.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

from rft_cli import __version__
from rft_cli.errors import UsageError
from rft_cli.runs.files import fsync_path, sha256_of, write_atomic

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
_STEP = re.compile(r"step-(\d{1,18})")
_PARTIAL = ".partial-"
_OLD = ".old-"
_DAMAGED = "damaged-"


class CheckpointStore:
    """The checkpoints of one run. Only the holder of the run's lock may write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        """The path of the checkpoint of `step`, which may not exist."""
        return self.folder / f"step-{step}"

    def begin(self, step: int) -> Path:
        """An empty directory to write the checkpoint into; removes unfinished ones of dead processes."""
        self.folder.mkdir(exist_ok=True)
        self.remove_torn()
        partial = self.folder / f"{_PARTIAL}step-{step}"
        partial.mkdir()
        return partial

    def commit(self, step: int, partial: Path) -> Path:
        """Make the files in `partial` the checkpoint of `step`, replacing an older one of that step."""
        entries = {}
        for name, file in _files(partial).items():
            fsync_path(file)
            entries[name] = {"size": file.stat().st_size, "sha256": sha256_of(file)}
        manifest = {"schema_version": MANIFEST_VERSION, "step": step, "files": entries}
        write_atomic(partial / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        for folder in (p for p in partial.rglob("*") if p.is_dir()):
            fsync_path(folder)
        target = self.path(step)
        if target.exists():
            self._put_away(target)
        os.rename(partial, target)
        fsync_path(self.folder)
        self.remove_torn()
        return target

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending."""
        return [step for step in self.present() if (self.path(step) / MANIFEST).is_file()]

    def present(self) -> list[int]:
        """Steps of all checkpoint directories, ascending, also of those without a manifest."""
        if not self.folder.is_dir():
            return []
        names = (_STEP.fullmatch(path.name) for path in self.folder.iterdir() if path.is_dir())
        return sorted(int(name[1]) for name in names if name)

    def check_versions(self) -> None:
        """Raise UsageError if a checkpoint is of a later schema version than this rft knows."""
        for step in self.steps():
            try:
                version = json.loads((self.path(step) / MANIFEST).read_text(encoding="utf-8"))[
                    "schema_version"
                ]
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                # damaged: `verify` says how
                continue
            if isinstance(version, int) and version > MANIFEST_VERSION:
                raise UsageError(
                    f"{self.path(step)} was written by a newer rft: its manifest has schema version {version}, "
                    f"rft {__version__} reads up to version {MANIFEST_VERSION}",
                    "take the rft that wrote it, or a newer one",
                )

    def verify(self, step: int) -> str | None:
        """None if every file is as it was committed, else the first problem, naming the file."""
        return _problem(self.path(step), step)

    def rotate(self, keep_last: int, protect: Collection[int]) -> list[int]:
        """Delete all but the newest `keep_last` and the protected checkpoints; the deleted steps."""
        steps = self.steps()
        kept = set(steps[max(0, len(steps) - keep_last) :]) | set(protect)
        gone = [step for step in steps if step not in kept]
        for step in gone:
            self._put_away(self.path(step))
        self.remove_torn()
        return gone

    def remove_torn(self) -> None:
        """Delete unfinished checkpoints and unfinished deletions."""
        for path in self._hidden(_PARTIAL) + self._hidden(_OLD):
            shutil.rmtree(path, ignore_errors=True)

    def replaced(self) -> int | None:
        """The step of the newest checkpoint, if a process died while replacing it and its old files are intact."""
        newest = max(self.present(), default=-1)
        for path in self._hidden(_OLD):
            step = _STEP.fullmatch(path.name.removeprefix(_OLD))
            if step and int(step[1]) > newest and _problem(path, int(step[1])) is None:
                return int(step[1])
        return None

    def put_back(self, step: int) -> None:
        """Rename the checkpoint that `replaced` found back."""
        os.rename(self.folder / f"{_OLD}step-{step}", self.path(step))
        fsync_path(self.folder)

    def set_aside(self, step: int) -> Path:
        """Rename a damaged checkpoint so that it no longer counts; its new path."""
        number = 1
        while os.path.lexists(aside := self.folder / f"{_DAMAGED}step-{step}-{number}"):
            number += 1
        os.rename(self.path(step), aside)
        fsync_path(self.folder)
        return aside

    def has_damaged(self) -> bool:
        """Whether a checkpoint was set aside here."""
        return bool(self._hidden(_DAMAGED))

    def _hidden(self, prefix: str) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.name.startswith(prefix))

    def _put_away(self, path: Path) -> None:
        # Renamed first: an interrupted deletion must not leave what looks like a checkpoint.
        aside = self.folder / f"{_OLD}{path.name}"
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(path, aside)


def _files(folder: Path) -> dict[str, Path]:
    """Every file except the manifest, by its name in the manifest."""
    found = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if not p.is_dir()}
    found.pop(MANIFEST, None)
    return found


def _problem(folder: Path, step: int) -> str | None:
    manifest = folder / MANIFEST
    try:
        record = json.loads(manifest.read_text(encoding="utf-8"))
        version, said = record["schema_version"], record["step"]
        expected = {name: (entry["size"], entry["sha256"]) for name, entry in record["files"].items()}
    except FileNotFoundError:
        return f"{manifest} is missing"
    except OSError as error:
        return f"{manifest} can't be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{manifest} is damaged"
    if version != MANIFEST_VERSION or said != step or not all(map(_is_inside, expected)):
        return f"{manifest} is damaged"
    for name, (size, digest) in expected.items():
        found = _changed(folder / name, size, digest)
        if found is not None:
            return found
    # A file whose name is missing from the manifest would not be checked.
    extra = sorted(_files(folder).keys() - expected.keys())
    return f"{folder / extra[0]} is not in {MANIFEST}" if extra else None


def _changed(file: Path, size: Any, digest: Any) -> str | None:
    try:
        if not file.is_file():
            return f"{file} is missing"
        if file.stat().st_size != size:
            return f"{file} has {file.stat().st_size} bytes, {size} were written"
        if sha256_of(file) != digest:
            return f"{file} has changed since it was written (SHA-256 differs)"
    except OSError as error:
        return f"{file} can't be read: {error.strerror}"
    return None


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name
