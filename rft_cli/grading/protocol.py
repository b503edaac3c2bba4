"""What every grader offers: a batch of requests in, one grade each out, in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rft_cli.grading.stats import GraderStats
from rft_cli.types import Grade, GradeRequest

OnOutput = Callable[[int, str], None]
"""Gets what the scorer printed while it graded the completion at a place; place -1 is its import."""


class BatchGrader(Protocol):
    """Grades completions. A grader never raises for a bad completion or a broken scorer: that is a failed grade."""

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        ...

    def close(self) -> None:
        """End worker processes and connections; safe to call twice."""
        ...


class PartGrader(BatchGrader, Protocol):
    """A grader that also works on a stream: what graders are combined of."""

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read; few of them are in flight."""
        ...


class Grader(PartGrader, Protocol):
    """What `open_grader` gives. Close it, or use it in a `with`."""

    @property
    def stats(self) -> GraderStats:
        """Counts every grade that it gave."""
        ...

    @property
    def signature(self) -> str:
        """What it is, in words for people."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of the file it was read from, in hex."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know of how it is called: guesses."""
        ...

    @property
    def may_ask(self) -> bool:
        """Whether it may need `GradeRequest.prompt`."""
        ...

    @property
    def needs_ids(self) -> bool:
        """Whether it grades nothing without `GradeRequest.token_ids`."""
        ...

    @property
    def log_path(self) -> Path | None:
        """Where prints of the user's code go; None where no such code runs."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Closing(ABC):
    """What `with` needs of a grader that has `close`, and what most graders answer."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing is guessed."""
        return ()

    @property
    def may_ask(self) -> bool:
        """The row says everything."""
        return False

    @property
    def needs_ids(self) -> bool:
        """The text says everything."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """End what the grader holds; safe to call twice."""
