"""The worker's side of the pool: load the scorer once, grade chunks, survive what a scorer does.

Runs in the main thread of a process of its own, so that SIGALRM can end a Python loop. A loop in C is ended by
faulthandler's watchdog, which needs no interpreter: it writes a traceback and ends the process.
Only strings, numbers and dicts travel back; no object of the user's is pickled.
"""

from __future__ import annotations

import faulthandler
import importlib
import pickle
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rft_cli.grading import isolation
from rft_cli.grading.binding import Item
from rft_cli.grading.load import LoadedScorer, ScorerProblem, ScorerSource, load_scorer, tell
from rft_cli.grading.values import BadValue, read_batch, read_return

IMPORT_LIMIT_S = 120.0
"""Seconds that importing the scorer may take."""
GRACE_S = 1.0
"""Seconds after its timeout at which a grade that swallowed the alarm is killed."""
_REARM_S = 0.25
_SPREAD = 2_654_435_761  # odd: seeds that are close to each other give numbers that are not

_now, _loads, _base_exception, _seed = time.perf_counter, pickle.loads, BaseException, random.seed
_setitimer, _set_handler, _alarm, _timer = signal.setitimer, signal.signal, signal.SIGALRM, signal.ITIMER_REAL
_watch, _unwatch = faulthandler.dump_traceback_later, faulthandler.cancel_dump_traceback_later
_hasattr, _type = hasattr, type


class Work(NamedTuple):
    """One completion as it travels to a worker. `place` counts from the start of the call or stream.

    `example` is pickled, so that each grade gets a copy of its own, which the scorer may change.
    """

    place: int
    completion: str
    example: bytes
    metadata: bytes | None


class Verdict(NamedTuple):
    """One grade as it travels back; `kind` is set where it failed, `reward` None elsewhere means skipped."""

    reward: float | None
    components: dict[str, float]
    kind: str | None
    message: str
    trace: str
    seconds: float


class LoadReport(NamedTuple):
    """What loading the scorer came to: a `signature`, or a `message` with its `fix`."""

    signature: str
    message: str
    fix: str
    trace: str
    found: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker of one grader knows. `slice_s`: a chunk gives the rest of its items back after that."""

    source: ScorerSource
    isolation: isolation.Isolation
    timeout_s: float
    slice_s: float
    memory_mb: int | None
    seed: int


def late_message(place: str, timeout_s: float) -> str:
    """What a grade that ran out of time says."""
    return f"{place}: no result after {timeout_s:g} s (grader.timeout_s)"


class _Alarm(BaseException):
    """The time of this grade is over. Not an Exception, so that `except Exception` lets it through."""


class _Worker:
    """The state of this process: there is one scorer in it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.cell = isolation.enter(job.isolation)
        self.builtins = isolation.Builtins()
        self.scorer: LoadedScorer | None = None
        self.problem: ScorerProblem | None = None
        self.rang = False
        self.listening = False
        self.watched_at = 0.0
        self.runner: Any = None
        self.numpy_seed: Callable[[int], None] | None = None

    def load(self) -> LoadReport:
        """Run the scorer file, unless that happened already."""
        start = _now()
        if self.scorer is None and self.problem is None:
            self.watch(IMPORT_LIMIT_S)
            if self.job.memory_mb is not None:
                isolation.limit_memory(self.job.memory_mb)
            try:
                self.scorer = load_scorer(self.job.source)
                self.builtins = isolation.Builtins()
                self.numpy_seed = _numpy_seed()
            except ScorerProblem as problem:
                self.problem = problem
            self.cell.leave_if_forked()
            _unwatch()
            isolation.flush_streams()
        seconds = _now() - start
        if self.problem is not None:
            message, fix = self.explained(self.problem.message), self.problem.fix
            return LoadReport("", message, fix, self.problem.trace, self.problem.found, seconds)
        assert self.scorer is not None
        return LoadReport(self.scorer.signature, "", "", "", (), seconds)

    def chunk(self, works: Sequence[Work]) -> list[Verdict]:
        """Grade the first works of the chunk, at least one: as many as fit into the time slice."""
        report = self.load()
        if self.scorer is None:
            return [Verdict(None, {}, "raised", report.message, report.trace, 0.0) for _ in works]
        start = _now()
        verdicts: list[Verdict] = []
        self.watch(self.job.timeout_s + GRACE_S)
        if self.scorer.binding.batch and len(works) > 1:
            verdicts = self.batch(works)
        for work in works[len(verdicts) :]:
            now = _now()
            if verdicts and now - start > self.job.slice_s:
                break
            if now - self.watched_at > _REARM_S:
                self.watch(self.job.timeout_s + GRACE_S)
            verdicts.append(self.single(work))
        _unwatch()
        isolation.flush_streams()
        return verdicts

    def single(self, work: Work) -> Verdict:
        """One grade; whatever the scorer does short of ending the process becomes a verdict."""
        assert self.scorer is not None
        binding, function = self.scorer.binding, self.scorer.function
        item = self.prepare(work)
        start = _now()
        try:
            try:
                self.arm()
                if binding.batch:
                    value = read_batch(self.resolve(binding.call_batch(function, [item])), 1)[0]
                else:
                    value = self.resolve(binding.call(function, item))
                reading = read_return(value)
            finally:
                self.disarm()
                self.cell.leave_if_forked()
                self.builtins.restore()
            if self.rang:
                return self.late(start)
            return Verdict(reading.reward, reading.components, None, "", "", _now() - start)
        except _Alarm as alarm:
            return self.late(start, alarm)
        except BadValue as bad:
            if self.rang:
                return self.late(start)
            return Verdict(None, {}, "bad_value", f"{self.job.source.shown}: {bad}", "", _now() - start)
        except _base_exception as error:
            if self.rang:  # the alarm, turned into another exception on its way up
                return self.late(start, error)
            raised = tell(error, self.job.source)
            return Verdict(None, {}, "raised", self.explained(raised.message), raised.trace, _now() - start)

    def batch(self, works: Sequence[Work]) -> list[Verdict]:
        """One call for all works. Where it fails as a whole, nothing: then each is graded in a call of its own."""
        assert self.scorer is not None
        items = [self.prepare(work) for work in works]
        start = _now()
        try:
            try:
                self.arm()
                values = read_batch(
                    self.resolve(self.scorer.binding.call_batch(self.scorer.function, items)), len(items)
                )
            finally:
                self.disarm()
                self.cell.leave_if_forked()
                self.builtins.restore()
        except _base_exception:
            self.disarm()  # once more: the alarm may have come in the middle of the first
            return []
        if self.rang:
            return []
        seconds = (_now() - start) / len(works)
        return [self.read(value, seconds) for value in values]

    def read(self, value: Any, seconds: float) -> Verdict:
        try:
            reading = read_return(value)
        except BadValue as bad:
            return Verdict(None, {}, "bad_value", f"{self.job.source.shown}: {bad}", "", seconds)
        return Verdict(reading.reward, reading.components, None, "", "", seconds)

    def prepare(self, work: Work) -> Item:
        """The same start for every grade: folder, streams, alarm handler and random numbers."""
        self.cell.go_home()
        isolation.repair_streams()
        _set_handler(_alarm, self.ring)
        mixed = (self.job.seed * _SPREAD + work.place) & 0xFFFF_FFFF
        _seed(mixed)
        if self.numpy_seed is not None:
            self.numpy_seed(mixed)
        metadata = {} if work.metadata is None else _loads(work.metadata)
        return Item(work.place, work.completion, _loads(work.example), metadata)

    def resolve(self, value: Any) -> Any:
        """The result of an async scorer; any other value as it is."""
        if not _hasattr(_type(value), "__await__"):
            return value
        if self.runner is None:
            import asyncio  # only async scorers pay for it

            self.runner = asyncio.Runner()
        return self.runner.run(_awaited(value))

    def arm(self) -> None:
        self.rang = False
        self.listening = True
        _setitimer(_timer, self.job.timeout_s, 0.1)  # rings again: the first alarm may be swallowed

    def disarm(self) -> None:
        self.listening = False
        _setitimer(_timer, 0)

    def ring(self, signal_number: int, frame: object) -> None:
        if self.listening:
            self.rang = True
            raise _Alarm

    def watch(self, seconds: float) -> None:
        _watch(seconds, exit=True, file=self.cell.faults)
        self.watched_at = _now()

    def late(self, start: float, error: BaseException | None = None) -> Verdict:
        self.disarm()  # once more: the alarm may have come in the middle of the first
        self.runner = None  # an event loop that was interrupted is of no more use
        place, trace = self.job.source.shown, ""
        if error is not None:
            place, _, trace = tell(error, self.job.source)
        return Verdict(None, {}, "timeout", late_message(place, self.job.timeout_s), trace, _now() - start)

    def explained(self, message: str) -> str:
        """The message, and if it names a withheld variable, that it was withheld."""
        for name in self.cell.withheld:
            if name in message:
                return f"{message} ({name} is withheld from scorers: allow it with grader.env)"
        return message


def _numpy_seed() -> Callable[[int], None] | None:
    """The seeding function of NumPy, if the scorer imported it."""
    if "numpy" not in sys.modules:
        return None
    seed: Callable[[int], None] = importlib.import_module("numpy.random").seed
    return seed


async def _awaited(value: Any) -> Any:
    return await value


_worker: _Worker | None = None


def start_worker(job: Job) -> None:
    """The pool's initializer: isolate the process. The scorer is loaded by the first task, which has a deadline."""
    global _worker
    _worker = _Worker(job)


def load() -> LoadReport:
    """Task: load the scorer and say how it is called, or why it can't be."""
    assert _worker is not None
    return _worker.load()


def grade_chunk(works: Sequence[Work]) -> list[Verdict]:
    """Task: verdicts of the first works, in order, at least one."""
    assert _worker is not None
    return _worker.chunk(works)
