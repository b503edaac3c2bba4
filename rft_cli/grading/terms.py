"""What every worker of one grader is told, the time it gets, and what it reports of loading the scorer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rft_cli.grading.isolation import Isolation
from rft_cli.grading.load import ScorerSource

IMPORT_LIMIT_S = 120.0
"""Seconds that importing the scorer may take."""
GRACE_S = 1.0
"""Seconds after its timeout at which a grade that swallowed the alarm is killed."""


class LoadReport(NamedTuple):
    """What loading the scorer came to: a `signature`, or a `message` with its `fix`; `output` is what it printed."""

    signature: str
    message: str
    fix: str
    trace: str
    found: tuple[str, ...]
    output: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker of one grader knows."""

    source: ScorerSource
    isolation: Isolation
    timeout_s: float
    memory_mb: int | None
    seed: int

    @property
    def slice_s(self) -> float:
        """Seconds after which a chunk gives the rest of its items back."""
        return min(self.timeout_s, 1.0)

    @property
    def openai(self) -> bool:
        """Whether the scorer must be what OpenAI takes, a function grade(sample, item) that returns a number."""
        return self.isolation.walled


def late_message(place: str, timeout_s: float) -> str:
    """What a grade that ran out of time says."""
    return f"{place}: no result after {timeout_s:g} s (grader.timeout_s)"
