"""What every grader offers: a batch of requests in, one grade each out, in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Protocol, Self

from rft_cli.grading.stats import GraderStats
from rft_cli.types import Grade, GradeRequest

OnOutput = Callable[[int, str], None]
"""Gets what the scorer printed while it graded the completion at a place; place -1 is its import."""


@dataclass(frozen=True, slots=True)
class GradedRequests:
    """Grades in the order of their requests, the seconds that grading took, and what judges had counted by its end."""

    grades: list[Grade]
    seconds: float
    judges: Mapping[str, float]


class BatchGrader(Protocol):
    """Grades completions. A grader never raises for a bad completion or a broken scorer: that is a failed grade."""

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        ...

    def close(self) -> None:
        """End worker processes and connections; safe to call twice."""
        ...


class PartGrader(BatchGrader, Protocol):
    """A grader that also works on a stream: the parts of a combined grader."""

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read; few of them are in flight."""
        ...


class Closing(ABC):
    """Something with a `close`, to be used in a `with`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """End worker processes and connections; safe to call twice."""


class Grader(Closing):
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

    @abstractmethod
    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""

    @abstractmethod
    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read; few of them are in flight."""

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
