"""Chunks of one call at the workers: handed out, taken in, and tried again where a worker was lost."""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from rft_cli.grading.pool.crash import Crash
from rft_cli.grading.pool.processes import Processes
from rft_cli.grading.wire.terms import late_message
from rft_cli.grading.wire.work import Verdict

KILL_SECONDS = 5.0
"""Within this time the pool ends a worker whose task is over its deadline."""

_MOST_EXCUSES = 5
_LOOK_S = 0.5
"""Seconds without news after which the pool's processes are looked at."""
_numbers = itertools.count(1)  # of tasks, in this process

W = TypeVar("W")
"""One work: what a completion is sent as."""
R = TypeVar("R", bound=Sized)
"""What a task answers for the first works it was given; `len` counts them."""


@dataclass(frozen=True, slots=True)
class Freight(Generic[W, R]):
    """How works travel. `task` runs in a worker; it gets its number and the bytes that `pack` makes of works.

    `pack` also gets the place of the first work. `unpack` reads what the task gave back. `failed` is the answer for one
    work whose worker was lost for good.
    """

    task: Callable[[int, bytes], bytes]
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


@dataclass(frozen=True, eq=False, slots=True)
class _Task(Generic[W, R]):
    """Works `start` to `end` of a chunk, given to a worker. `again`: their first worker was lost.

    `excused` counts losses of a worker that were another task's fault. The pool may tell the wrong one: when a worker
    dies, the message that it went on to its next task may still be on its way.
    """

    chunk: Chunk[W, R]
    start: int
    end: int
    again: bool = False
    excused: int = 0
    number: int = field(default_factory=lambda: next(_numbers))


@dataclass(eq=False)
class Flight(Generic[W, R]):
    """The tasks of one call that are at the workers. `deadline_s`: what a task may take before its worker is killed."""

    processes: Processes
    freight: Freight[W, R]
    deadline_s: float
    crash_of: Callable[[BaseException, str], Crash]
    timeout_s: float
    tasks: dict[Future[Any], _Task[W, R]] = field(default_factory=dict)
    done: queue.SimpleQueue[Future[Any]] = field(default_factory=queue.SimpleQueue)

    def launch(self, place: int, works: Sequence[W]) -> Chunk[W, R]:
        """Hand out these works; the chunk fills as `collect` is called."""
        chunk: Chunk[W, R] = Chunk(place, works, {}, len(works))
        self._submit(_Task(chunk, 0, len(works)))
        return chunk

    def _submit(self, task: _Task[W, R]) -> None:
        chunk = task.chunk
        packed = self.freight.pack(chunk.place + task.start, chunk.works[task.start : task.end])
        future = self.processes.schedule(self.freight.task, (task.number, packed), self.deadline_s)
        self.tasks[future] = task
        future.add_done_callback(self.done.put)

    def collect(self, *, block: bool, timeout: float | None = None) -> None:
        """Take in what is done; with `block`, wait until something is, or for `timeout` seconds."""
        while True:
            future = self._next(block, timeout)
            if future is None:
                if block and timeout is None:
                    self._restart()
                return
            task = self.tasks.pop(future, None)
            if task is not None:  # None: it was given up with its pool
                self._absorb(task, future)
            block = False

    def _next(self, block: bool, timeout: float | None) -> Future[Any] | None:
        """A task that is done; None where none is in time."""
        end = time.monotonic() + (self.deadline_s + 2 * KILL_SECONDS if timeout is None else timeout)
        while True:
            try:
                left = min(max(end - time.monotonic(), 0.0), _LOOK_S)
                return self.done.get(block, left)
            except queue.Empty:
                if not block or time.monotonic() >= end:
                    return None
                self.processes.end_stopped()

    def _restart(self) -> None:
        """Nothing came back in far longer than any task may take: the pool itself is stuck. Take another."""
        lost = list(self.tasks.values())
        self.tasks.clear()
        self.processes.replace()
        for task in lost:
            self._submit(task)

    def _absorb(self, task: _Task[W, R], future: Future[Any]) -> None:
        error = future.exception()
        if error is not None:
            self._lose(task, error)
            return
        self.processes.worked()
        count = self._settle(task, self.freight.unpack(future.result()))
        if task.start + count < task.end:
            self._spread(task, task.start + count)

    def _spread(self, task: _Task[W, R], start: int) -> None:
        """Give works that a worker had no time for to all workers."""
        size = -(-(task.end - start) // self.processes.workers)
        for first in range(start, task.end, size):
            self._submit(_Task(task.chunk, first, min(first + size, task.end), task.again))

    def _settle(self, task: _Task[W, R], answer: R) -> int:
        count = len(answer)
        task.chunk.answers[task.start] = answer
        task.chunk.open -= count
        return count

    def _lose(self, task: _Task[W, R], error: BaseException) -> None:
        """The task's worker was lost: find out by whose fault."""
        crash = self.crash_of(error, "grading it")
        if crash.blamed and crash.task != task.number and task.excused < _MOST_EXCUSES:
            for future, other in list(self.tasks.items()):
                if other.number == crash.task:
                    del self.tasks[future]
                    self._condemn(other, crash)
            self._submit(replace(task, excused=task.excused + 1, number=next(_numbers)))
        else:
            self._condemn(task, crash)

    def _condemn(self, task: _Task[W, R], crash: Crash) -> None:
        """Its worker was lost by this task. Try each of its works alone; one that loses its worker alone has failed."""
        if task.end - task.start == 1 and (task.again or crash.late):
            text = late_message(crash.place, self.timeout_s) if crash.late else f"{crash.place}: {crash.text}"
            kind = "timeout" if crash.late else "died"
            seconds = self.timeout_s if crash.late else 0.0
            verdict = Verdict(None, {}, kind, text, crash.trace, seconds, crash.output)
            place = task.chunk.place + task.start
            self._settle(task, self.freight.failed(place, task.chunk.works[task.start], verdict))
            return
        for start in range(task.start, task.end):
            self._submit(_Task(task.chunk, start, start + 1, again=True))
