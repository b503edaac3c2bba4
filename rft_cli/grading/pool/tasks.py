"""The chunks of one call that are at the workers, tried again without the completion that killed a worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from rft_cli.grading.pool.workers import Task, Workers
from rft_cli.grading.wire.frames import WHOLE, Kind
from rft_cli.grading.wire.work import Verdict
from rft_cli.grading.worker.crash import Crash

_MOST_TRIES = 5
"""So often a part is tried whose worker ended before it began any of it; then its first completion is to blame."""

W = TypeVar("W")
"""One work: what a completion is sent as."""
R = TypeVar("R", bound=Sized)
"""What a worker answers for the first works it was given; `len` counts them."""


@dataclass(frozen=True, slots=True)
class Codec(Generic[W, R]):
    """How works travel: `pack` makes bytes of works and the place of the first, `unpack` reads what comes back.

    `failed` is the answer for one work that killed its worker.
    """

    kind: Kind
    pack: Callable[[int, Sequence[W]], bytes]
    unpack: Callable[[bytes], R]
    failed: Callable[[int, W, Verdict], R]


@dataclass(eq=False, slots=True)
class Chunk(Generic[W, R]):
    """Neighbouring works, the first at `place`, and the answers so far by offset; `open` counts works without one."""

    place: int
    works: Sequence[W]
    answers: dict[int, R]
    open: int

    def parts(self) -> list[tuple[int, R]]:
        """The answers in order, each with the offset of its first work."""
        return sorted(self.answers.items(), key=lambda part: part[0])

    def add(self, start: int, answer: R) -> int:
        """Keep the answer for the works from `start` on; how many it covers."""
        self.answers[start] = answer
        self.open -= len(answer)
        return len(answer)


@dataclass(eq=False)
class Pending(Generic[W, R]):
    """Hands chunks to the workers, and fills them as `collect` is called."""

    workers: Workers
    codec: Codec[W, R]
    timeout_s: float
    heard: int = 0

    def launch(self, place: int, works: Sequence[W]) -> Chunk[W, R]:
        """Hand out these works; the chunk fills as `collect` is called."""
        chunk: Chunk[W, R] = Chunk(place, works, {}, len(works))
        self._submit(chunk, 0, len(works))
        return chunk

    def collect(self, timeout: float | None = None) -> None:
        """Take in what is done; wait until something is, at most for `timeout` seconds."""
        before, begin = self.heard, time.monotonic()
        while True:
            left = 1.0 if timeout is None else max(0.0, begin + timeout - time.monotonic())
            self.workers.step(left)
            if self.heard != before or left == 0:
                return

    def _submit(self, chunk: Chunk[W, R], start: int, end: int, tries: int = 1) -> None:
        if start < end:
            packed = self.codec.pack(chunk.place + start, chunk.works[start:end])
            answered = partial(self._answered, chunk, start, end)
            lost = partial(self._lost, chunk, start, end, tries)
            self.workers.submit(Task(self.codec.kind, packed, answered, lost))

    def _answered(self, chunk: Chunk[W, R], start: int, end: int, body: bytes) -> None:
        self.heard += 1
        start += chunk.add(start, self.codec.unpack(body))
        # What the worker had no time for goes to all of them.
        size = max(1, -(-(end - start) // self.workers.count))
        for first in range(start, end, size):
            self._submit(chunk, first, min(first + size, end))

    def _lost(self, chunk: Chunk[W, R], start: int, end: int, tries: int, begun: int, crash: Crash) -> None:
        """The worker that had these works was lost: the one it had begun has failed, the others are tried again."""
        self.heard += 1
        at = begun - chunk.place
        if (begun == WHOLE or not crash.exact) and end - start > 1:
            for first in range(start, end):
                self._submit(chunk, first, first + 1)
            return
        if not start <= at < end:
            if begun != WHOLE and tries < _MOST_TRIES:
                self._submit(chunk, start, end, tries + 1)
                return
            at = start
        verdict = crash.verdict(self.timeout_s)
        chunk.add(at, self.codec.failed(chunk.place + at, chunk.works[at], verdict))
        self._submit(chunk, start, at)
        self._submit(chunk, at + 1, end)
