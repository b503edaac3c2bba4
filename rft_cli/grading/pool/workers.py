"""The worker processes of one grader: tasks handed out and answers taken in, lost workers replaced.

Use it from one thread; `close` may come from another. A worker has one task at a time, so the task of a worker that
dies is known, and which of its completions the worker had begun is in memory that both share.
"""

from __future__ import annotations

import pickle
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping

from rft_cli.errors import RunFailed, UsageError
from rft_cli.grading.pool.scratch import Scratch, kill_leftovers
from rft_cli.grading.pool.tasks import Batch, Task
from rft_cli.grading.pool.worker_process import Garbled, WorkerProcess
from rft_cli.grading.worker.ending import Crash
from rft_cli.grading.worker.messages import GRACE_S, IMPORT_LIMIT_S, MARGIN_S, LoadReport, WorkerSetup

_TICK_S = 0.1
"""Seconds between looks at workers that say nothing."""
_MOST_STARTS = 5
"""So many workers in a row that end before they have loaded the scorer end the run."""


class Workers:
    """At most `count` processes with this `environment`, started as they are needed. They live in `scratch`."""

    def __init__(
        self, count: int, setup: WorkerSetup, environment: Mapping[str, str], scratch: Scratch
    ) -> None:
        self.count = count
        self._setup = setup
        self._environment = environment
        self._limit_s = setup.timeout_s + GRACE_S + 2 * MARGIN_S
        self._workers: list[WorkerProcess] = []
        self._waiting: deque[Task] = deque()
        self._poll = select.poll()
        self._by_descriptor: dict[int, WorkerProcess] = {}
        self._report: LoadReport | None = None
        self._load_crash: Crash | None = None
        self._started = 0
        self._lost_starts = 0
        self._looked_at = 0.0
        # Held while the workers are being looked after.
        self._busy = threading.Lock()
        self._closed = False
        self._end = weakref.finalize(self, _end, self._workers, scratch)

    def close(self) -> None:
        """End all workers and what they left, and with them a `step` of another thread; safe to call twice."""
        self._closed = True
        with self._busy:
            self._end()

    def load(self) -> LoadReport:
        """The report of the first worker that loads the scorer; UsageError where importing it ends or blocks."""
        self._start()
        while self._report is None:
            self.step(_TICK_S)
            if self._load_crash is not None:
                crash = self._load_crash
                what = f"importing it takes longer than {IMPORT_LIMIT_S:g} s" if crash.late else crash.text
                fix = "the file must import without ending or blocking"
                raise UsageError(f"{crash.place}: {what}", fix)
        return self._report

    def submit(self, batch: Batch) -> None:
        """Queue a batch; `step` hands it out, and its outcomes come as `step` is called."""
        self._waiting.append(Task(batch, 0, len(batch.works)))

    def step(self, timeout: float) -> None:
        """Hand out tasks, then wait for a worker at most `timeout` seconds, and take in what it answers.

        Raises RunFailed where no worker can be kept alive, and after `close`.
        """
        with self._busy:
            if self._closed:
                raise RunFailed("the grader was closed while it graded")
            self._step(timeout)

    def _step(self, timeout: float) -> None:
        self._hand_out()
        for descriptor, _ in self._poll.poll(min(timeout, _TICK_S) * 1000):
            worker = self._by_descriptor.get(descriptor)
            if worker is not None:
                self._receive(worker, ended=descriptor == worker.child.handle)
        if time.monotonic() - self._looked_at >= _TICK_S:
            self._look()
        self._hand_out()

    def _hand_out(self) -> None:
        for worker in self._workers:
            if not self._waiting:
                return
            if worker.ready and worker.task is None:
                worker.send(self._waiting.popleft())
        starting = sum(not worker.ready for worker in self._workers)
        if starting < len(self._waiting) and len(self._workers) < self.count:
            self._start()

    def _start(self) -> None:
        if self._lost_starts > _MOST_STARTS:
            log_path = self._setup.isolation.log_path
            raise RunFailed("the grader's worker processes can't be kept alive", f"see {log_path}")
        self._started += 1
        worker = WorkerProcess(self._setup, self._started, self._environment)
        self._workers.append(worker)
        for descriptor in (worker.answers, worker.child.handle):
            if descriptor >= 0:
                self._by_descriptor[descriptor] = worker
                self._poll.register(descriptor, select.POLLIN)

    def _receive(self, worker: WorkerProcess, *, ended: bool = False) -> None:
        still_open = worker.read()
        try:
            while (body := worker.answer()) is not None:
                self._take(worker, body)
        except Garbled:
            still_open = False
        if ended or not still_open:
            self._lose(worker)

    def _take(self, worker: WorkerProcess, body: bytes) -> None:
        if not worker.ready:
            worker.ready = True
            self._lost_starts = 0
            self._report = self._report or LoadReport(*pickle.loads(body))
            return
        task, worker.task = worker.task, None
        if task is not None:
            self._waiting.extend(task.answered(body, self.count))

    def _look(self) -> None:
        """Find workers that were stopped, or whose grade ended neither by alarm nor by watchdog."""
        self._looked_at = now = time.monotonic()
        for worker in list(self._workers):
            begun = worker.begun[0]
            if begun != worker.seen:
                worker.seen, worker.since = begun, now
            task = worker.task
            limit_s = self._limit_s if worker.ready else IMPORT_LIMIT_S + MARGIN_S
            late = (task is not None or not worker.ready) and now - worker.since > limit_s
            if late or worker.child.stopped() or (worker.child.handle < 0 and worker.child.gone()):
                self._receive(worker)
                if worker in self._workers and worker.task is task:
                    self._lose(worker, late=late)

    def _lose(self, worker: WorkerProcess, *, late: bool = False) -> None:
        self._workers.remove(worker)
        for descriptor in (worker.answers, worker.child.handle):
            if self._by_descriptor.pop(descriptor, None):
                self._poll.unregister(descriptor)
        crash = worker.end("grading it" if worker.ready else "importing it", late=late)
        begun = worker.begun[0]
        worker.remove()
        if not worker.ready:
            self._lost_starts += 1
            self._load_crash = crash
        if worker.task is not None:
            self._waiting.extend(worker.task.lost(begun, crash, self._setup.timeout_s))


def _end(workers: list[WorkerProcess], scratch: Scratch) -> None:
    for worker in workers:
        worker.kill()
    workers.clear()
    kill_leftovers(scratch.path)
    scratch.remove()
