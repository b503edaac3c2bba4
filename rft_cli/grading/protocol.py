"""What every grader offers: requests in, one grade each out, in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Self

from rft_cli.grading.stats import GraderStats
from rft_cli.types import Grade, GradeRequest


class Feed:
    """An iterator of requests. `ready` says whether the next one, or the end, is there.

    Where it is not, a grader gives the grades of the earlier requests before it waits for more.
    """

    def __init__(self, requests: Iterable[GradeRequest], ready: Callable[[], bool] = lambda: True) -> None:
        self._requests = iter(requests)
        self.ready = ready

    @classmethod
    def of(cls, requests: Iterable[GradeRequest]) -> Feed:
        """The feed itself, or one of requests that are all there."""
        return requests if isinstance(requests, Feed) else cls(requests)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> GradeRequest:
        return next(self._requests)

    def take(self, most: int) -> list[GradeRequest]:
        """The next requests that are there, at most `most`; waits for one, and gives none at the end."""
        taken: list[GradeRequest] = []
        for request in self._requests:
            taken.append(request)
            if len(taken) == most or not self.ready():
                break
        return taken

    def copies(self, count: int) -> list[Feed]:
        """Feeds of the same requests; one that was read by some of them waits until the last has read it."""
        queues: list[deque[GradeRequest]] = [deque() for _ in range(count)]

        def read(own: deque[GradeRequest]) -> Iterator[GradeRequest]:
            while True:
                if not own:
                    request = next(self._requests, None)
                    if request is None:
                        return
                    for queue in queues:
                        queue.append(request)
                yield own.popleft()

        def ready(own: deque[GradeRequest]) -> bool:
            return bool(own) or self.ready()

        return [Feed(read(own), partial(ready, own)) for own in queues]


BURST = 64
"""Requests that a stream grades at a time; fewer where no more are there yet."""
OnOutput = Callable[[int, str], None]
"""Gets what the scorer printed while it graded the completion at a place; place -1 is its import."""


@dataclass(frozen=True, slots=True)
class GradedRequests:
    """Grades in the order of their requests, the seconds that grading took, and what judges had counted by its end."""

    grades: list[Grade]
    seconds: float
    judges: Mapping[str, float]


class Closing:
    """Something with a `close`, to be used in a `with`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End worker processes and connections, where there are any; safe to call twice."""


class PartGrader(Closing, ABC):
    """Grades completions; may be a part of a combined grader.

    It never raises for a bad completion or a broken scorer: that is a failed grade.
    """

    @abstractmethod
    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read; few of them are in flight."""
        feed = Feed.of(requests)
        while burst := feed.take(BURST):
            yield self.grade(burst)


class Grader(PartGrader):
    """What `open_grader` gives: a `PartGrader` with what people ask of it. Close it, or use it in a `with`."""

    in_place = False
    """Whether it computes in this process, on the device that trains."""
    stats: GraderStats
    """Counts every grade that it gave."""
    signature: str
    """What it is, in words for people."""
    sha256: str
    """Hash of the file it was read from, in hex."""
    log_path: Path | None
    """Where prints of the user's code go; None where no such code runs."""

    def start(self, requests: Sequence[GradeRequest]) -> Future[GradedRequests]:
        """Begin to grade; this one has graded when it returns."""
        future: Future[GradedRequests] = Future()
        try:
            future.set_result(self.timed(requests))
        except Exception as error:
            future.set_exception(error)
        return future

    def timed(self, requests: Sequence[GradeRequest]) -> GradedRequests:
        """One grade for each request, with the time and the judges' counts."""
        started = perf_counter()
        grades = self.grade(requests)
        judges = self.stats.judges
        return GradedRequests(grades, perf_counter() - started, {} if judges is None else judges.to_metrics())

    @property
    def notes(self) -> tuple[str, ...]:
        """Guesses about how it is called, for people; mostly none."""
        return ()

    @property
    def may_ask(self) -> bool:
        """Whether it may need `GradeRequest.prompt`."""
        return False

    @property
    def needs_ids(self) -> bool:
        """Whether it grades nothing without `GradeRequest.token_ids`."""
        return False
