"""What can be done with a run now: stop the process that writes it, or resume it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RESUMABLE = ("interrupted", "failed", "running", "created")
"""What run.json says of a run that can go on, if no process writes it: that of one that was killed says running."""

Doing = Literal["starting", "running", "stopping", "ending", "nothing"]


@dataclass(frozen=True, slots=True)
class Actions:
    """`doing`: starting: a process of this dashboard begins to resume it. running: a process trains the run.
    stopping: that process was asked to end. ending: it writes no more, and has not ended yet.

    `pid`: of the process. `refused`: why it can't be stopped from here. `failed`: the last lines of a start that ended
    with an error. `has_log`: the dashboard started it.
    """

    doing: Doing
    pid: int | None = None
    refused: str = ""
    can_resume: bool = False
    failed: str = ""
    has_log: bool = False


def last_error(log: str, most: int = 12) -> str:
    """The error messages at the end of a log; its last lines where it has none."""
    lines = log.strip().splitlines()
    first = next(
        (place for place, line in enumerate(lines) if line.startswith(("error", "internal error"))), None
    )
    return "\n".join(lines[-5:] if first is None else lines[first:][:most])
