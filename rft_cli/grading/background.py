"""Grades in the background: a thread of its own gives batches to the grader, one after the other.

A job trains while its grader works. Whoever asks for grades meanwhile, as a validation does, waits for its turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from rft_cli.grading.protocol import GradedRequests, Grader
from rft_cli.types import Grade, GradeRequest


class BackgroundGrader(Grader):
    """The grader `inner`, which only this one uses from now on. Close it, or use it in a `with`."""

    def __init__(self, inner: Grader) -> None:
        self._inner = inner
        # Worker processes die with the thread that started them: it lives until the grader is closed.
        self._thread = ThreadPoolExecutor(1, "grading")
        self.stats = inner.stats
        self.signature, self.sha256, self.log_path = inner.signature, inner.sha256, inner.log_path

    def start(self, requests: Sequence[GradeRequest]) -> Future[GradedRequests]:
        """Begin to grade, after what was started before; what the grader raises, the future raises."""
        return self._thread.submit(self._inner.timed, requests)

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order, after what was started before."""
        return self.start(requests).result().grades

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order; reads all requests first."""
        yield self.grade(list(requests))

    def close(self) -> None:
        """Close the grader; what is being graded ends without grades. Safe to call twice."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._inner.close()
        self._thread.shutdown()

    @property
    def notes(self) -> tuple[str, ...]:
        return self._inner.notes

    @property
    def may_ask(self) -> bool:
        return self._inner.may_ask

    @property
    def needs_ids(self) -> bool:
        return self._inner.needs_ids


def in_background(grader: Grader) -> Grader:
    """The grader as a job uses it. One that computes on the device that trains would only slow it down there."""
    return grader if grader.in_place else BackgroundGrader(grader)
