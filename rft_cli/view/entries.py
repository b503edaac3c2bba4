"""The runs of a folder, one entry each, from their run.json alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rft_cli.errors import UsageError
from rft_cli.runs.find import check_record, read_info
from rft_cli.runs.lock import check_free
from rft_cli.types import Comparison
from rft_cli.view.stored_estimates import comparison_of

UNREADABLE = "unreadable"
DIED = "died"
"""run.json says running, and no process writes the run: it was killed, or its machine went down."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A run in a list. `reward`: on the test rows where there are some, else on the validation rows; None without a
    result. `doubt`: why that is not to be believed, such as "looks gamed". `problem`: why the run can't be read."""

    path: Path
    name: str
    status: str
    model: str = ""
    algorithm: str = ""
    created: str = ""
    seconds: float | None = None
    best_step: int = 0
    split: str = ""
    reward: Comparison | None = None
    doubt: str = ""
    problem: str | None = None

    @property
    def age_s(self) -> float | None:
        """Seconds since it was created."""
        try:
            return (datetime.now(UTC) - datetime.fromisoformat(self.created)).total_seconds()
        except (ValueError, TypeError):
            return None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "path": str(self.path),
            "status": self.status,
            "model": self.model,
            "algorithm": self.algorithm,
            "created": self.created or None,
            "seconds": self.seconds,
            "best_step": self.best_step,
            "split": self.split or None,
            "reward": None if self.reward is None else self.reward.to_json(),
            "doubt": self.doubt or None,
            "problem": self.problem,
        }


def list_entries(folder: Path, refused: Callable[[Path], str | None] = lambda _: None) -> list[Entry]:
    """The runs directly under `folder`, newest first, unreadable ones at the end.

    A run for which `refused` gives a reason is not read: it is unreadable for that reason.
    """
    found = []
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(
            f"{folder} can't be read: {error.strerror or error}", "give another --output-dir"
        ) from None
    for path in paths:
        if not path.name.startswith(".") and (path / "run.json").is_file():
            why = refused(path)
            entry = read_entry(path) if why is None else Entry(path, path.name, UNREADABLE, problem=why)
            if entry is not None:
                found.append(entry)
    return sorted(found, key=lambda entry: (entry.problem is None, entry.created, entry.name), reverse=True)


def read_entry(path: Path) -> Entry | None:
    """The entry of this run; one with `problem` where it can't be read, None where it was deleted meanwhile."""
    try:
        info = read_info(path)
        check_record(path, info)
    except UsageError as error:
        if not (path / "run.json").exists():
            return None
        return Entry(path, path.name, UNREADABLE, problem=error.message)
    return entry_of(path, info)


def entry_of(path: Path, info: Mapping[str, Any]) -> Entry:
    """The entry of a run with this record, which `check_record` has passed."""
    result = info.get("result") or {}
    split = next((name for name in ("test", "validation") if isinstance(result.get(name), Mapping)), "")
    return Entry(
        path=path,
        name=path.name,
        status=_status(path, str(info["status"])),
        model=short_model(str(info.get("model") or "")),
        algorithm=str(info.get("algorithm") or ""),
        created=str(info.get("created") or ""),
        seconds=info.get("seconds"),
        best_step=int(info.get("best_step") or 0),
        split=split,
        reward=comparison_of(result[split]) if split else None,
        doubt=_doubt(result, split),
    )


def _doubt(result: Mapping[str, Any], split: str) -> str:
    gaming, guards = result.get("gaming"), result.get("guard")
    guard = guards.get(split) if isinstance(guards, Mapping) else None
    gamed = isinstance(gaming, Mapping) and gaming.get("verdict") == "gamed"
    fell = isinstance(guard, Mapping) and bool(guard.get("alarm"))
    return ", ".join([*(["looks gamed"] if gamed else []), *(["the guard fell"] if fell else [])])


def _status(path: Path, said: str) -> str:
    if said != "running":
        return said
    try:
        check_free(path)
    except UsageError:
        return said
    return DIED


def short_model(model: str) -> str:
    """A model's name as people say it: of a directory the last part."""
    return os.path.basename(model.rstrip("/")) if model.startswith(("/", ".", "~")) else model
