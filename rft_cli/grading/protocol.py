"""What every grader offers: a batch of requests in, one grade each out, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rft_cli.types import Grade, GradeRequest


class Grader(Protocol):
    """Grades completions. A grader never raises for a bad completion or a broken scorer: that is a failed grade."""

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        ...

    def close(self) -> None:
        """End worker processes; safe to call twice."""
        ...
