"""How far a job has come, from the end of its metrics.jsonl alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft_cli.view.reading import figure, parsed

_TAIL = 65_536
"""Bytes at the end of the file in which the last whole line is looked for."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The last step, its epoch and mean training reward; `share` of the epochs that are done. None: unknown."""

    step: int
    epoch: float | None
    reward: float | None
    share: float | None


def progress_of(run: Path, info: Mapping[str, Any]) -> RunProgress | None:
    """The progress of this run; None before its first step."""
    line = _last_line(run / "metrics.jsonl")
    step = None if line is None else line.get("step")
    if line is None or not isinstance(step, int):
        return None
    epoch, epochs = figure(line.get("epoch")), figure((info.get("settings") or {}).get("optim.n_epochs"))
    share = None if epoch is None or not epochs else min(1.0, max(0.0, epoch / epochs))
    return RunProgress(step, epoch, figure(line.get("reward")), share)


def _last_line(file: Path) -> dict[str, Any] | None:
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - _TAIL))
            lines = opened.read().split(b"\n")
    except OSError:
        return None
    return next((row for line in reversed(lines) if line and (row := parsed(line)) is not None), None)
