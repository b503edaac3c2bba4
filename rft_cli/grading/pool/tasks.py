"""Completions that are at the workers: what is left to do when a worker answers, or ends before it does."""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rft_cli.grading.wire.frames import WHOLE
from rft_cli.grading.wire.messages import Work
from rft_cli.grading.worker.crash import Crash

_MOST_TRIES = 5
"""Tries of a task whose worker ended before it began any of it; then its first completion is to blame."""


@dataclass(eq=False, slots=True)
class Batch:
    """Neighbouring completions of one call. `outcomes` has an `Outcome` as a plain tuple for each that is graded.

    `binding` says how the scorer is called, pickled. `left` counts completions without an outcome.
    """

    binding: bytes
    works: Sequence[Work]
    outcomes: list[tuple[Any, ...]] = field(init=False)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.works)
        self.outcomes = [()] * self.left

    def keep(self, start: int, outcomes: Sequence[tuple[Any, ...]]) -> int:
        """Keep the outcomes of the completions from `start` on; returns where the next one begins."""
        end = start + len(outcomes)
        self.outcomes[start:end] = outcomes
        self.left -= len(outcomes)
        return end


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """The completions of a batch from `start` to `end`, for one worker."""

    batch: Batch
    start: int
    end: int
    tries: int = 1

    def request(self) -> bytes:
        """The bytes that the worker gets."""
        return marshal.dumps((self.batch.binding, list(self.batch.works[self.start : self.end])))

    def answered(self, body: bytes, workers: int) -> list[Task]:
        """Keep the outcomes of the first completions; the others, which took too long, are divided among `workers`."""
        start = self.batch.keep(self.start, marshal.loads(body))
        size = max(1, -(-(self.end - start) // workers))
        return [
            Task(self.batch, first, min(first + size, self.end)) for first in range(start, self.end, size)
        ]

    def lost(self, begun: int, crash: Crash, timeout_s: float) -> list[Task]:
        """Fail the completion that the lost worker had begun; the others are to be tried again.

        `begun` is its place in the call, WHOLE for all of a batch call. Where the one to blame is not known, each is
        tried alone.
        """
        batch, start, end = self.batch, self.start, self.end
        if (begun == WHOLE or not crash.exact) and end - start > 1:
            return [Task(batch, first, first + 1) for first in range(start, end)]
        at = begun - batch.works[0][0]
        if not start <= at < end:
            if begun != WHOLE and self.tries < _MOST_TRIES:
                return [Task(batch, start, end, self.tries + 1)]
            at = start
        batch.keep(at, [crash.outcome(timeout_s)])
        return [Task(batch, first, last) for first, last in ((start, at), (at + 1, end)) if first < last]
