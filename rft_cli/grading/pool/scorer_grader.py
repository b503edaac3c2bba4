"""A Python scorer as a Grader: requests go to worker processes in batches, grades come back in order.

Of a batch whose worker died or hung, the completion that it had begun fails; the others are graded again. Results do
not depend on batches or workers: each grade starts with random numbers seeded by its place.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rft_cli.config.schema import GraderConfig
from rft_cli.config.suggest import closest
from rft_cli.errors import UsageError
from rft_cli.grading.isolation.process import Isolation, secret_names
from rft_cli.grading.pool.binding import Bound, SignatureProblem, bind, may_ask
from rft_cli.grading.pool.openai_limits import check_source, memory_limit
from rft_cli.grading.pool.scratch import Scratch
from rft_cli.grading.pool.tasks import Batch, Packer
from rft_cli.grading.pool.workers import Workers
from rft_cli.grading.protocol import Feed, Grader, OnOutput
from rft_cli.grading.shape import Shape, shape_of_row
from rft_cli.grading.stats import GraderStats
from rft_cli.grading.worker.load import lay_out
from rft_cli.grading.worker.messages import LoadReport, ScorerSource, WorkerSetup
from rft_cli.grading.worker.signature import OPENAI, SIGNATURES, Binding
from rft_cli.types import Grade, GradeError, GradeRequest

MAX_BATCH = 64
_BATCH_SECONDS = 0.1
"""A batch is sized to about this much work, so that results flow and workers stay evenly busy."""
_MIN_BATCH_SECONDS = 0.002
"""Work that is not worth dividing among workers: handing out a batch costs about a tenth of it."""
_FIRST_BATCH = 8
_FORK_S = 0.001
"""About what a fork adds to a grade (`grader.fresh`)."""
_POLL_S = 0.02


def worker_count(config: GraderConfig, *, spare: int = 1) -> int:
    """Worker processes of `grader.workers`; auto: CPU cores less `spare`, at least 1, at most 8."""
    if config.workers != "auto":
        return config.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores - spare))


class ScorerGrader(Grader):
    """The Grader of a Python scorer, which is loaded in one worker. Close it, or use it in a `with`.

    `signature` says how the scorer is called, `stats` counts every grade, `sha256` is of the scorer's bytes. `notes`
    say what its parameters get where that is a guess. The workers' own folders lie in `job_folder`, which `close`
    removes.

    Raises UsageError, with the scorer's own file:line, where it does not import, has no known function or a signature
    that can't be used with such `rows` (None: that shows with the first row).
    """

    def __init__(
        self,
        source: ScorerSource,
        config: GraderConfig,
        log_path: Path | None,
        seed: int,
        on_output: OnOutput | None = None,
        rows: Shape | None = None,
    ) -> None:
        self.source = source
        self.sha256 = source.sha256
        self.stats = GraderStats()
        self._notes: tuple[str, ...] = ()
        self._rows = rows or Shape()
        self._binding: Binding | None = None
        self._on_output = on_output
        self._mean_seconds: float | None = None
        self._fork_s = _FORK_S if config.fresh else 0.0
        if config.limits == "openai":
            check_source(source)
        scratch = Scratch()
        self.job_folder = scratch.path
        self.log_path = self.job_folder / "grader.log" if log_path is None else log_path.absolute()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        lay_out(self.job_folder, source.path, source.content)
        keys = (config.judge.api_key_env, config.embeddings.api_key_env)
        withheld = secret_names(list(os.environ), config.env, keys)
        environment = {name: value for name, value in os.environ.items() if name not in withheld}
        isolation = Isolation(
            str(self.job_folder),
            str(self.log_path),
            os.getpid(),
            tuple(withheld),
            keep_output=on_output is not None,
            openai=config.limits == "openai",
        )
        memory_mb = memory_limit(config)
        setup = WorkerSetup(source, isolation, config.grade_limit_s, memory_mb, seed, config.fresh)
        self._workers = Workers(worker_count(config), setup, environment, scratch)
        try:
            self._report = self._load()
            self.signature = self._report.signature
            if source.inline or self._rows.keys is not None:
                self._bind(self._rows)
            else:
                self._check_without_rows()
        except BaseException:
            self.close()
            raise

    def _load(self) -> LoadReport:
        """Load the scorer in one worker; raises UsageError if it can't be used."""
        report = self._workers.load()
        if report.output and self._on_output is not None:
            self._on_output(-1, report.output)
        if not report.signature:
            wanted = self.source.function
            near = None if wanted is None else closest(wanted, report.found)
            fix = f"did you mean '{self.source.shown}:{near}'? ({report.fix})"
            raise UsageError(report.message, report.fix if near is None else fix)
        return report

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        share = -(-len(requests) // (4 * self._workers.count))
        if self._mean_seconds is not None:
            share = max(share, int(_MIN_BATCH_SECONDS / max(self._mean_seconds, 1e-6)))
        return [grade for burst in self._grades(requests, max(1, min(MAX_BATCH, share))) for grade in burst]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        return self._grades(requests, MAX_BATCH)

    def close(self) -> None:
        """End worker processes and whatever they left running; safe to call twice."""
        self._workers.close()

    def _grades(self, requests: Iterable[GradeRequest], most: int) -> Iterator[list[Grade]]:
        """The grades of batches of at most `most`, each batch when all of it is graded."""
        feed = Feed.of(requests)
        at_workers: deque[Batch] = deque()
        packer: Packer | None = None
        packed = b""
        place = 0
        ended = False
        while at_workers or not ended:
            if at_workers and not at_workers[0].left:
                yield self._graded(at_workers.popleft())
            elif ended or len(at_workers) > 3 * self._workers.count:
                self._workers.step(1.0)
            elif at_workers and not feed.ready():
                self._workers.step(_POLL_S)
            elif taken := feed.take(self._batch_size(most)):
                if packer is None:
                    binding = self._bound_to(taken[0])
                    packer, packed = Packer(binding), pickle.dumps(binding, pickle.HIGHEST_PROTOCOL)
                works = [packer.pack(at, request) for at, request in enumerate(taken, place)]
                place += len(works)
                at_workers.append(Batch(packed, works))
                self._workers.submit(at_workers[-1])
                self._workers.step(0)
            else:
                ended = True

    def _graded(self, batch: Batch) -> list[Grade]:
        grades = [_as_grade(outcome) for outcome in batch.outcomes]
        self.stats.add(grades)
        mean = sum(grade.seconds for grade in grades) / len(grades) + self._fork_s
        self._mean_seconds = mean if self._mean_seconds is None else 0.7 * self._mean_seconds + 0.3 * mean
        if self._on_output is not None:
            for work, outcome in zip(batch.works, batch.outcomes, strict=True):
                if output := outcome[-1]:
                    self._on_output(work[0], output)
        return grades

    def _batch_size(self, most: int) -> int:
        if self._mean_seconds is None:
            return _FIRST_BATCH
        return max(1, min(most, int(_BATCH_SECONDS / max(self._mean_seconds, 1e-6))))

    @property
    def notes(self) -> tuple[str, ...]:
        """What its parameters get, as far as that is a guess; known with the first row."""
        return self._notes

    @property
    def function_name(self) -> str:
        """The function that grades."""
        return self._report.callee.name

    @property
    def may_ask(self) -> bool:
        """Whether a call may need what the model was asked, as far as it shows without a row."""
        return may_ask(self._report.callee)

    @property
    def needs_ids(self) -> bool:
        """Whether every call needs the completion's token ids, which only a job has."""
        return self._binding is not None and self._binding.uses("ids")

    def _check_without_rows(self) -> None:
        try:
            bind(self._report.callee, self._rows)
        except SignatureProblem as problem:
            if not problem.rows_may_help:
                raise self._unusable(problem) from None

    def _bound_to(self, request: GradeRequest) -> Binding:
        return self._binding or self._bind(shape_of_row(request.fields, request.place, self._rows.columns))

    def _bind(self, shape: Shape) -> Binding:
        """Decide, once, what the scorer's parameters get; raises UsageError."""
        try:
            bound = Bound(OPENAI) if self.source.inline else bind(self._report.callee, shape)
        except SignatureProblem as problem:
            raise self._unusable(problem) from None
        self._binding, self._notes = bound
        return bound.binding

    def _unusable(self, problem: SignatureProblem) -> UsageError:
        name = self._report.callee.name
        return UsageError(f"{self._report.place}: {name} {problem}", f"use {SIGNATURES}")


def _as_grade(outcome: tuple[Any, ...]) -> Grade:
    """The grade of an `Outcome`, which comes as a plain tuple."""
    reward, components, kind, message, trace, seconds, _output = outcome
    if kind is not None:
        return Grade("failed", error=GradeError(kind, message, trace), seconds=seconds)
    if reward is None:
        return Grade("skipped", seconds=seconds)
    return Grade("graded", reward, components, seconds=seconds)
