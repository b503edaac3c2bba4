"""Checkpoints exist only once committed: files flushed, manifest written, then one rename.

A directory `checkpoints/step-N` with a manifest is a checkpoint; whatever else lies there is the torn work of
a process that died, and is never listed. The manifest holds each file's size and SHA-256, because a flipped
bit in a weights file loads without complaint.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from rft_cli.runs.files import fsync_path, sha256_of, write_atomic

MANIFEST = "manifest.json"
_STEP = re.compile(r"step-(\d+)")
_PARTIAL = ".partial-"
_OLD = ".old-"


class CheckpointStore:
    """The checkpoints of one run. Only the holder of the run's lock may write; anybody may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        """Where the checkpoint of `step` lies, or would lie."""
        return self.folder / f"step-{step}"

    def begin(self, step: int) -> Path:
        """An empty directory to write the checkpoint into; torn ones of dead processes are removed."""
        self.folder.mkdir(exist_ok=True)
        self.remove_torn()
        partial = self.folder / f"{_PARTIAL}step-{step}"
        partial.mkdir()
        return partial

    def commit(self, step: int, partial: Path) -> Path:
        """Make the files in `partial` the checkpoint of `step`, replacing an older one of that step."""
        entries = {}
        for file in sorted(p for p in partial.rglob("*") if p.is_file()):
            fsync_path(file)
            entries[file.relative_to(partial).as_posix()] = {
                "size": file.stat().st_size,
                "sha256": sha256_of(file),
            }
        manifest = {"schema_version": 1, "step": step, "files": entries}
        write_atomic(partial / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        for folder in (p for p in partial.rglob("*") if p.is_dir()):
            fsync_path(folder)
        target = self.path(step)
        if target.exists():
            self._set_aside(target)
        os.rename(partial, target)
        fsync_path(self.folder)
        self.remove_torn()
        return target

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending."""
        if not self.folder.is_dir():
            return []
        found = []
        for path in self.folder.iterdir():
            match = _STEP.fullmatch(path.name)
            if match and (path / MANIFEST).is_file():
                found.append(int(match[1]))
        return sorted(found)

    def verify(self, step: int) -> str | None:
        """None if every file is as it was committed, else the first problem, naming the file."""
        folder = self.path(step)
        try:
            files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
            expected = {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}
        except FileNotFoundError:
            return f"{folder / MANIFEST} is missing"
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"{folder / MANIFEST} is damaged"
        for name, (size, digest) in expected.items():
            file = folder / name
            if not file.is_file():
                return f"{file} is missing"
            if file.stat().st_size != size:
                return f"{file} has {file.stat().st_size} bytes, {size} were written"
            if sha256_of(file) != digest:
                return f"{file} has changed since it was written (SHA-256 differs)"
        return None

    def rotate(self, keep_last: int, protect: Collection[int]) -> list[int]:
        """Delete all but the newest `keep_last` and the protected checkpoints; the deleted steps."""
        steps = self.steps()
        kept = set(steps[max(0, len(steps) - keep_last) :]) | set(protect)
        gone = [step for step in steps if step not in kept]
        for step in gone:
            self._set_aside(self.path(step))
        self.remove_torn()
        return gone

    def remove_torn(self) -> None:
        """Delete what was never committed and what was being deleted."""
        if not self.folder.is_dir():
            return
        for path in list(self.folder.iterdir()):
            if path.name.startswith((_PARTIAL, _OLD)):
                shutil.rmtree(path, ignore_errors=True)

    def _set_aside(self, path: Path) -> None:
        # One rename first: a deletion that is cut short must not leave what looks like a checkpoint.
        aside = self.folder / f"{_OLD}{path.name}"
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(path, aside)
