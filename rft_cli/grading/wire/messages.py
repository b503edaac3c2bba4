"""What every worker of one grader is told, the time it gets, and what it reports of loading the scorer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from rft_cli.grading.isolation.process import Isolation
from rft_cli.grading.wire.signature import Callee

IMPORT_LIMIT_S = 120.0
"""Seconds that importing the scorer may take."""
GRACE_S = 1.0
"""Seconds after its timeout at which a grade that swallowed the alarm is killed, by the worker's own watchdog."""
MARGIN_S = 1.0
"""Seconds after that at which the parent kills a worker whose watchdog was turned off."""


@dataclass(frozen=True, slots=True)
class ScorerSource:
    """A scorer as it stood when the grader was opened; restarted workers run these bytes, not a later edit.

    `path` is absolute, `shown` is the file as the user named it, `function` None means: look for one. `inline`: the
    text stands in a grader spec; its `grade` gets sample and item by position, whatever it calls them. `home`: the
    folder in which it runs and from which it imports too, beside its own; empty: a new one.
    """

    path: str
    shown: str
    function: str | None
    content: bytes
    inline: bool = False
    home: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the file's bytes, in hex."""
        return hashlib.sha256(self.content).hexdigest()


class LoadReport(NamedTuple):
    """What loading the scorer came to: a `signature`, or a `message` with its `fix`; `output` is what it printed.

    `place` is the function's file:line, `callee` what its parameters are bound by.
    """

    signature: str
    message: str
    fix: str
    trace: str
    found: tuple[str, ...]
    output: str = ""
    place: str = ""
    callee: Callee = Callee("", ())


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker of one grader knows. `fresh`: each completion is graded in a fork of the worker."""

    source: ScorerSource
    isolation: Isolation
    timeout_s: float
    memory_mb: int | None
    seed: int
    fresh: bool = False

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
