"""From what a person typed for RUN to a run directory."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft_cli import __version__
from rft_cli.errors import UsageError

SCHEMA_VERSION = 1
"""Of run.json. A later version may add fields to one it shares with us: unknown ones are kept and ignored."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A run under an output directory; `created` is the ISO time from its run.json."""

    path: Path
    created: str


def is_run(path: Path) -> bool:
    """Whether this directory is a run."""
    return os.path.isfile(path / "run.json") and os.path.isfile(path / "config.yaml")


def list_runs(output_dir: Path) -> list[Listed]:
    """The runs directly under `output_dir`, newest first, without damaged ones."""
    if not output_dir.is_dir():
        return []
    found = []
    for path in output_dir.iterdir():
        if path.name.startswith(".") or not is_run(path):
            continue
        try:
            found.append(Listed(path, str(read_info(path).get("created", ""))))
        except UsageError:
            continue
    return sorted(found, key=lambda run: (run.created, run.path.name), reverse=True)


def resolve(ref: str, output_dir: Path) -> Path:
    """The run's directory; a UsageError that lists the newest runs where `ref` is none."""
    if ref == "latest":
        runs = list_runs(output_dir)
        if not runs:
            raise UsageError(
                f"there are no runs in {output_dir}", "make one with `rft create`, or give a path"
            )
        return runs[0].path
    for path in (Path(ref), output_dir / ref):
        if is_run(path):
            return path
    names = [run.path.name for run in list_runs(output_dir)]
    close = difflib.get_close_matches(ref, names, n=1)
    if close:
        fix = f"did you mean {close[0]!r}?"
    elif names:
        fix = f"newest runs in {output_dir}: {', '.join(names[:5])} (or `latest`)"
    else:
        fix = f"there are no runs in {output_dir}; give the run's path, or --output-dir"
    raise UsageError(f"{ref} {_not_a_run(ref, output_dir)}", fix)


def _not_a_run(ref: str, output_dir: Path) -> str:
    folder = next((path for path in (Path(ref), output_dir / ref) if os.path.isdir(path)), None)
    if folder is None:
        return "is not a run"
    missing = [name for name in ("run.json", "config.yaml") if not (folder / name).is_file()]
    return f"is a directory, but not a run (no {' and no '.join(missing)})"


def read_info(path: Path) -> dict[str, Any]:
    """run.json of this run; a UsageError if it is damaged."""
    file = path / "run.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} can't be read: {error}", "the run is damaged; use another one") from None
    if not isinstance(record, dict):
        raise UsageError(f"{file} can't be read: no JSON object", "the run is damaged; use another one")
    return record


def check_record(path: Path, record: dict[str, Any]) -> None:
    """UsageError if this record of a run is one of a later version of rft, or lacks what every run has."""
    file, version = path / "run.json", record.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        by = (record.get("versions") or {}).get("rft") if isinstance(record.get("versions"), dict) else None
        raise UsageError(
            f"{file} has schema version {version}{f', written by rft {by}' if by else ''}; "
            f"rft {__version__} reads up to version {SCHEMA_VERSION}",
            "take the rft that wrote it, or a newer one",
        )
    wrong = [name for name in ("schema_version", "status") if record.get(name) is None]
    if wrong:
        raise _damaged(file, f"{' and '.join(wrong)} {'are' if wrong[1:] else 'is'} missing")
    for name, kind in _KINDS.items():
        value = record.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise _damaged(file, f"{name} is {json.dumps(value)[:40]}, which it can't be")
    if not all(isinstance(w, dict) and isinstance(w.get("step"), int) for w in record.get("warnings") or ()):
        raise _damaged(file, "warnings is not a list of objects with a step")


def _damaged(file: Path, why: str) -> UsageError:
    return UsageError(f"{file} can't be read: {why}", "the run is damaged; use another one")


_KINDS: dict[str, type | tuple[type, ...]] = {
    "schema_version": int, "status": str, "path": str, "created": str, "model": str, "algorithm": str, "base": str,
    "asked_revision": str, "best_step": int, "num_processes": int, "seconds": (int, float), "result": dict,
    "settings": dict, "hashes": dict, "grader_modules": dict, "forced": list, "warnings": list,
}  # fmt: skip
"""What rft relies on in run.json, and the type of each that is there and not null."""
