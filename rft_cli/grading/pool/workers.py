"""The worker processes of one grader: tasks handed out and answers taken in, lost workers replaced.

Use it from one thread. A worker has one task at a time, so the task of a worker that dies is known, and which of its
completions the worker had begun is in memory that both share.
"""

from __future__ import annotations

import select
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rft_cli.errors import RunFailed, UsageError
from rft_cli.grading.isolation.leftovers import kill_leftovers
from rft_cli.grading.pool.scratch import Scratch
from rft_cli.grading.pool.worker_process import Garbled, WorkerProcess
from rft_cli.grading.wire.frames import Kind
from rft_cli.grading.wire.messages import GRACE_S, IMPORT_LIMIT_S, MARGIN_S, Job
from rft_cli.grading.worker.crash import Crash

_TICK_S = 0.1
"""Seconds between looks at workers of which nothing is heard."""
_MOST_STARTS = 5
"""So many workers in a row that end before they have loaded the scorer end the run."""


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """What one worker is asked. `answered` gets its answer, as bytes.

    `lost` is called where the worker is lost instead, with the shared number that says what it had begun.
    """

    kind: Kind
    packed: bytes
    answered: Callable[[bytes], None]
    lost: Callable[[int, Crash], None]


class Workers:
    """At most `count` processes, started as they are needed.

    `make_job` gets the folder for the workers' own folders, and the file for what scorers print. `environment` is that
    of the workers.
    """

    def __init__(
        self,
        count: int,
        log_path: Path | None,
        environment: Mapping[str, str],
        make_job: Callable[[str, str], Job],
    ) -> None:
        self.count = count
        scratch = Scratch()
        self.scratch = scratch.path
        self.log_path = self.scratch / "grader.log" if log_path is None else log_path.absolute()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._job = make_job(str(self.scratch), str(self.log_path))
        self._environment = environment
        self._limit_s = self._job.timeout_s + GRACE_S + 2 * MARGIN_S
        self._workers: dict[WorkerProcess, Task | None] = {}
        self._waiting: deque[Task] = deque()
        self._poll = select.poll()
        # By descriptor: the worker, and whether the descriptor tells its end.
        self._by_number: dict[int, tuple[WorkerProcess, bool]] = {}
        self._report: bytes | None = None
        self._load_crash: Crash | None = None
        self._started = 0
        self._lost_starts = 0
        self._looked_at = 0.0
        self.close = weakref.finalize(self, _end, self._workers, scratch)
        """End all workers and what they left; safe to call twice."""

    def load(self) -> bytes:
        """The report of the first worker that loads the scorer; raises UsageError where importing it ends or blocks."""
        self._start()
        while self._report is None:
            self.step(_TICK_S)
            if self._load_crash is not None:
                crash = self._load_crash
                what = f"importing it takes longer than {IMPORT_LIMIT_S:g} s" if crash.late else crash.text
                fix = "the file must import without ending or blocking"
                raise UsageError(f"{crash.place}: {what}", fix)
        return self._report

    def submit(self, task: Task) -> None:
        """Queue a task; `step` hands it out."""
        self._waiting.append(task)

    def step(self, timeout: float) -> None:
        """Hand out tasks, wait until something is heard of a worker, or for `timeout` seconds, and pass it on.

        Raises RunFailed where no worker can be kept alive.
        """
        self._hand_out()
        for number, _ in self._poll.poll(min(timeout, _TICK_S) * 1000):
            if number in self._by_number:
                worker, ended = self._by_number[number]
                self._hear(worker, ended)
        if time.monotonic() - self._looked_at >= _TICK_S:
            self._look()
        self._hand_out()

    def _hand_out(self) -> None:
        free = [worker for worker, task in self._workers.items() if task is None and worker.ready]
        while free and self._waiting:
            worker, task = free.pop(), self._waiting.popleft()
            self._workers[worker] = task
            worker.send(task.kind, task.packed)
            if worker.writing:
                self._poll.register(worker.requests, select.POLLOUT)
        starting = sum(not worker.ready for worker in self._workers)
        if starting < len(self._waiting) and len(self._workers) < self.count:
            self._start()

    def _start(self) -> None:
        if self._lost_starts > _MOST_STARTS:
            raise RunFailed("the grader's worker processes can't be kept alive", f"see {self.log_path}")
        self._started += 1
        worker = WorkerProcess(self._job, self._started, self._environment)
        self._workers[worker] = None
        self._by_number[worker.requests] = self._by_number[worker.answers] = (worker, False)
        self._poll.register(worker.requests, select.POLLOUT)
        self._poll.register(worker.answers, select.POLLIN)
        if worker.child.handle >= 0:
            self._by_number[worker.child.handle] = (worker, True)
            self._poll.register(worker.child.handle, select.POLLIN)

    def _hear(self, worker: WorkerProcess, ended: bool) -> None:
        if worker.writing and worker.write():
            self._poll.unregister(worker.requests)
        goes_on = worker.read()
        try:
            while (body := worker.answer()) is not None:
                self._take(worker, body)
        except Garbled:
            goes_on = False
        if ended or not goes_on:
            self._lose(worker)

    def _take(self, worker: WorkerProcess, body: bytes) -> None:
        if not worker.ready:
            worker.ready = True
            self._lost_starts = 0
            self._report = self._report or body
            return
        task, self._workers[worker] = self._workers[worker], None
        if task is not None:
            task.answered(body)

    def _look(self) -> None:
        """Find workers that were stopped, or whose grade ended neither by alarm nor by watchdog."""
        self._looked_at = now = time.monotonic()
        for worker, task in list(self._workers.items()):
            at = worker.begun[0]
            if at != worker.seen:
                worker.seen, worker.since = at, now
            limit_s = self._limit_s if worker.ready else IMPORT_LIMIT_S + MARGIN_S
            late = (task is not None or not worker.ready) and now - worker.since > limit_s
            if late or worker.child.stopped() or (worker.child.handle < 0 and worker.child.gone()):
                self._hear(worker, False)
                if worker in self._workers and self._workers[worker] is task:
                    self._lose(worker, late=late)

    def _lose(self, worker: WorkerProcess, *, late: bool = False) -> None:
        task = self._workers.pop(worker)
        for number in (worker.requests, worker.answers, worker.child.handle):
            if self._by_number.pop(number, None) and (number != worker.requests or worker.writing):
                self._poll.unregister(number)
        crash = worker.end("grading it" if worker.ready else "importing it", late=late)
        begun = worker.begun[0]
        worker.remove()
        if not worker.ready:
            self._lost_starts += 1
            self._load_crash = crash
        if task is not None:
            task.lost(begun, crash)


def _end(workers: dict[WorkerProcess, Task | None], scratch: Scratch) -> None:
    for worker in workers:
        worker.kill()
    workers.clear()
    kill_leftovers(scratch.path)
    scratch.remove()
