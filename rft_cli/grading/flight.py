"""Chunks of one call at the workers: handed out, taken in, and tried again where a worker was lost."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from rft_cli.grading.crash import Crash
from rft_cli.grading.processes import Processes
from rft_cli.grading.worker import Verdict, Work, grade_chunk, late_message

KILL_SECONDS = 5.0
"""Within this time the pool ends a worker whose task is over its deadline."""


@dataclass(eq=False, slots=True)
class Chunk:
    """Neighbouring requests and their verdicts so far; `open` counts those that are missing."""

    verdicts: list[Verdict | None]
    open: int


@dataclass(frozen=True, eq=False, slots=True)
class _Task:
    """Part of a chunk, given to a worker: `works` begin at `offset`. `again`: its first worker was lost."""

    chunk: Chunk
    offset: int
    works: Sequence[Work]
    again: bool = False


@dataclass(eq=False)
class Flight:
    """The tasks of one call that are at the workers. `deadline_s`: what a task may take before its worker is killed."""

    processes: Processes
    deadline_s: float
    crash_of: Callable[[BaseException, str], Crash]
    timeout_s: float
    tasks: dict[Future[Any], _Task] = field(default_factory=dict)
    done: queue.SimpleQueue[Future[Any]] = field(default_factory=queue.SimpleQueue)

    def launch(self, works: Sequence[Work]) -> Chunk:
        """Hand out these works; the chunk fills as `collect` is called."""
        chunk = Chunk([None] * len(works), len(works))
        self._submit(_Task(chunk, 0, works))
        return chunk

    def _submit(self, task: _Task) -> None:
        future = self.processes.schedule(grade_chunk, task.works, self.deadline_s)
        self.tasks[future] = task
        future.add_done_callback(self.done.put)

    def collect(self, *, block: bool) -> None:
        """Take in what is done; with `block`, wait until something is."""
        while True:
            try:
                future = self.done.get(block, self.deadline_s + 2 * KILL_SECONDS)
            except queue.Empty:
                if block:
                    self._restart()
                return
            task = self.tasks.pop(future, None)
            if task is not None:  # None: it was given up with its pool
                self._absorb(task, future)
            block = False

    def _restart(self) -> None:
        """Nothing came back in far longer than any task may take: the pool itself is stuck. Take another."""
        lost = list(self.tasks.values())
        self.tasks.clear()
        self.processes.replace()
        for task in lost:
            self._submit(task)

    def _absorb(self, task: _Task, future: Future[Any]) -> None:
        error = future.exception()
        if error is not None:
            self._lose(task, error)
            return
        verdicts: list[Verdict] = future.result()
        self._settle(task, verdicts)
        rest = task.works[len(verdicts) :]
        if rest:
            self._spread(task, task.offset + len(verdicts), rest)

    def _spread(self, task: _Task, offset: int, works: Sequence[Work]) -> None:
        """Give works that a worker had no time for to all workers."""
        size = -(-len(works) // self.processes.workers)
        for start in range(0, len(works), size):
            self._submit(_Task(task.chunk, offset + start, works[start : start + size], task.again))

    def _settle(self, task: _Task, verdicts: Sequence[Verdict]) -> None:
        task.chunk.verdicts[task.offset : task.offset + len(verdicts)] = verdicts
        task.chunk.open -= len(verdicts)

    def _lose(self, task: _Task, error: BaseException) -> None:
        """The task's worker was lost. Try each of its works alone; one that loses its worker alone has failed."""
        crash: Crash = self.crash_of(error, "grading it")
        if len(task.works) == 1 and (task.again or crash.late):
            text = late_message(crash.place, self.timeout_s) if crash.late else f"{crash.place}: {crash.text}"
            kind = "timeout" if crash.late else "died"
            self._settle(
                task, [Verdict(None, {}, kind, text, crash.trace, self.timeout_s if crash.late else 0.0)]
            )
            return
        for place, work in enumerate(task.works):
            self._submit(_Task(task.chunk, task.offset + place, [work], again=True))
