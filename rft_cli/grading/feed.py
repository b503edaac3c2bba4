"""Requests in order, and whether the next one is there, so that a live pipe gets each grade without delay."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Self

from rft_cli.types import GradeRequest


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
