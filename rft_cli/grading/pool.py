"""A Python scorer as a Grader: requests go to worker processes in chunks, grades come back in order.

A chunk whose worker died or hung is graded again, one completion at a time, so that only the completion at fault
fails. Results do not depend on chunks or workers: each grade starts with random numbers seeded by its place.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pebble import ProcessExpired

from rft_cli.config.schema import GraderConfig
from rft_cli.config.suggest import closest
from rft_cli.errors import UsageError
from rft_cli.grading.crash import Crash, read_crash
from rft_cli.grading.flight import KILL_SECONDS, Chunk, Flight
from rft_cli.grading.isolation import Isolation
from rft_cli.grading.load import ScorerSource
from rft_cli.grading.outcomes import GraderStats
from rft_cli.grading.processes import Processes
from rft_cli.grading.source import read_source
from rft_cli.grading.worker import GRACE_S, IMPORT_LIMIT_S, Job, LoadReport, Verdict, Work, load
from rft_cli.types import Grade, GradeError, GradeRequest

MAX_CHUNK = 64
_CHUNK_SECONDS = 0.1
"""A chunk is sized to about this much work, so that results flow and workers stay evenly busy."""
_FIRST_CHUNK = 8
_PATIENCE_S = 0.2


def open_grader(config: GraderConfig, *, log_path: Path | None, seed: int = 0) -> ScorerGrader:
    """Start workers for the scorer of `config` and load it in one of them.

    Raises UsageError, with the scorer's own file:line, where the file is missing, does not import, has no known
    function or an unusable signature. Prints of the scorer go to `log_path` (None: a file that `close` removes).
    """
    source = read_source(config)
    grader = ScorerGrader(source, config, log_path, seed)
    try:
        grader.load()
    except BaseException:
        grader.close()
        raise
    return grader


def worker_count(config: GraderConfig) -> int:
    """Worker processes of `grader.workers`; auto: CPU cores less one, at least 1, at most 8."""
    if config.workers != "auto":
        return config.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores - 1))


class ScorerGrader:
    """The Grader of a Python scorer. Use `open_grader`, and close it (or use it in a `with`).

    `signature` says how the scorer is called, `stats` counts every grade, `sha256` is of the scorer's bytes.
    """

    def __init__(self, source: ScorerSource, config: GraderConfig, log_path: Path | None, seed: int) -> None:
        self.source = source
        self.sha256 = source.sha256
        self.stats = GraderStats()
        self.signature = ""
        self._timeout_s = config.timeout_s

        def job(isolation: Isolation) -> Job:
            slice_s = min(config.timeout_s, 1.0)
            return Job(source, isolation, config.timeout_s, slice_s, config.memory_mb, seed)

        self._processes = Processes(worker_count(config), log_path, job, tuple(config.env))
        self.log_path = self._processes.log_path
        # A call of a batch scorer and one of a single completion may both run out of time in one chunk.
        self._deadline_s = 2 * (config.timeout_s + GRACE_S) + 2.0 + KILL_SECONDS
        self._mean_seconds: float | None = None

    def __enter__(self) -> ScorerGrader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self) -> None:
        """Load the scorer in one worker; raises UsageError if it can't be used."""
        started = time.monotonic()
        future = self._processes.schedule(load, None, IMPORT_LIMIT_S + KILL_SECONDS)
        try:
            report: LoadReport = future.result(timeout=IMPORT_LIMIT_S + 2 * KILL_SECONDS)
        except (ProcessExpired, TimeoutError) as error:
            crash = self._crash(error, "importing it")
            what = f"importing it takes longer than {IMPORT_LIMIT_S:g} s" if crash.late else crash.text
            raise UsageError(
                f"{crash.place}: {what}", "the file must import without ending or blocking"
            ) from None
        if not report.signature:
            raise UsageError(report.message, self._load_fix(report))
        self.signature = report.signature
        # Each further worker imports the scorer in its first chunk.
        self._deadline_s += 2 * (time.monotonic() - started) + KILL_SECONDS

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        share = -(-len(requests) // (4 * self._processes.workers))
        bursts = self._stream(requests, max(1, min(MAX_CHUNK, share)))
        return [grade for burst in bursts for grade in burst]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read; few of them are in flight."""
        return self._stream(requests, MAX_CHUNK)

    def close(self) -> None:
        """End worker processes and whatever they left running; safe to call twice."""
        self._processes.close()

    def _stream(self, requests: Iterable[GradeRequest], max_chunk: int) -> Iterator[list[Grade]]:
        flight = Flight(self._processes, self._deadline_s, self._crash, self._timeout_s)
        waiting: deque[Chunk] = deque()
        works = _as_works(requests)
        exhausted = False
        while True:
            if waiting and not waiting[0].open:
                grades = [_as_grade(verdict) for verdict in waiting.popleft().verdicts if verdict is not None]
                self._observe(grades)
                yield grades
            elif not exhausted and len(waiting) < 3 * self._processes.workers + 1:
                chunk = _take(works, min(max_chunk, self._chunk_size()))
                if chunk:
                    waiting.append(flight.launch(chunk))
                    flight.collect(block=False)
                else:
                    exhausted = True
            elif waiting:
                flight.collect(block=True)
            else:
                return

    def _chunk_size(self) -> int:
        if self._mean_seconds is None:
            return _FIRST_CHUNK
        return max(1, min(MAX_CHUNK, int(_CHUNK_SECONDS / max(self._mean_seconds, 1e-6))))

    def _observe(self, grades: Sequence[Grade]) -> None:
        self.stats.add(grades)
        mean = sum(grade.seconds for grade in grades) / len(grades)
        self._mean_seconds = mean if self._mean_seconds is None else 0.7 * self._mean_seconds + 0.3 * mean

    def _crash(self, error: BaseException, doing: str) -> Crash:
        crash = read_crash(error, self._processes.scratch, self.source, doing)
        self._processes.sweep()
        return crash

    def _load_fix(self, report: LoadReport) -> str:
        wanted = self.source.function
        near = None if wanted is None else closest(wanted, report.found)
        return report.fix if near is None else f"did you mean '{self.source.shown}:{near}'? ({report.fix})"


def _take(works: Iterator[Work], size: int) -> list[Work]:
    """The next works, at most `size`; fewer where they come slowly, so that a live pipe sees its grades."""
    taken: list[Work] = []
    started = 0.0
    for work in works:
        taken.append(work)
        now = time.monotonic()
        started = started or now
        if len(taken) == size or now - started > _PATIENCE_S:
            break
    return taken


def _as_works(requests: Iterable[GradeRequest]) -> Iterator[Work]:
    """Requests as they travel. The row of a group's completions is pickled once, and unpickled for each of them."""
    row: Mapping[str, Any] | None = None
    pickled = b""
    for index, request in enumerate(requests):
        if request.fields is not row:
            row = request.fields
            pickled = pickle.dumps(dict(row), pickle.HIGHEST_PROTOCOL)
        metadata = pickle.dumps(dict(request.metadata), pickle.HIGHEST_PROTOCOL) if request.metadata else None
        yield Work(index, request.completion, pickled, metadata)


def _as_grade(verdict: Verdict) -> Grade:
    if verdict.kind is not None:
        return Grade(
            "failed", error=GradeError(verdict.kind, verdict.message, verdict.trace), seconds=verdict.seconds
        )
    if verdict.reward is None:
        return Grade("skipped", seconds=verdict.seconds)
    return Grade("graded", verdict.reward, verdict.components, seconds=verdict.seconds)
