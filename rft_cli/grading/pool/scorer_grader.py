"""A Python scorer as a Grader: requests go to worker processes in chunks, grades come back in order.

Of a chunk whose worker died or hung, the completion that it had begun fails; the others are graded again. Results do
not depend on chunks or workers: each grade starts with random numbers seeded by its place.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rft_cli.config.schema import GraderConfig
from rft_cli.config.suggest import closest
from rft_cli.data.json_line import object_of
from rft_cli.errors import UsageError
from rft_cli.grading.isolation.process import Isolation, secret_names
from rft_cli.grading.isolation.scorer_module import lay_out
from rft_cli.grading.pool.limits import check_source, limits_of
from rft_cli.grading.pool.supply import Lines, Requests, Supply
from rft_cli.grading.pool.tasks import Chunk, Codec, Pending
from rft_cli.grading.pool.workers import Workers
from rft_cli.grading.protocol import Closing, OnOutput
from rft_cli.grading.shape import shape_of_row
from rft_cli.grading.source import by_file_name, read_source
from rft_cli.grading.stats import GraderStats
from rft_cli.grading.wire.frames import Kind
from rft_cli.grading.wire.messages import Job, LoadReport, ScorerSource
from rft_cli.grading.wire.signature import Binding, Shape
from rft_cli.grading.wire.work import Block, Graded, Verdict, Work, as_graded, read_lines
from rft_cli.grading.worker.binding import OPENAI, SIGNATURES, Bound, SignatureProblem, bind, may_ask
from rft_cli.types import Grade, GradeError, GradeRequest

MAX_CHUNK = 64
MAX_LINES = 1024
"""Works of one chunk at most: of requests, and of lines, which are a lot cheaper to send."""
_CHUNK_SECONDS = 0.1
"""A chunk is sized to about this much work, so that results flow and workers stay evenly busy."""
_MIN_CHUNK_SECONDS = 0.002
"""Work that is not worth dividing among workers: handing out a chunk costs about a tenth of it."""
_FIRST_CHUNK = 8
_FORK_S = 0.001
"""About what a fork adds to a grade (`grader.fresh`)."""
_POLL_S = 0.02

W = TypeVar("W")
R = TypeVar("R", list[tuple[Any, ...]], Graded)


class GradedLines(NamedTuple):
    """Graded lines as text to write, for `rows` rows. `bad`: place and bytes of a line that ends them, which is no
    row with a completion."""

    text: bytes
    rows: int
    bad: tuple[int, bytes] | None = None


def open_grader(
    config: GraderConfig,
    *,
    log_path: Path | None,
    seed: int = 0,
    on_output: OnOutput | None = None,
    brief: bool = False,
    rows: Shape | None = None,
) -> ScorerGrader:
    """Start workers for the scorer of `config` and load it in one of them.

    Raises UsageError, with the scorer's own file:line, where the file is missing, does not import, has no known
    function or a signature that can't be used with such `rows` (None: that shows with the first row). Prints of the
    scorer go to `log_path` (None: a file that `close` removes), or to `on_output`, each with its completion's place.
    `brief`: messages name the file without its folder.
    """
    source = read_source(config)
    return start(by_file_name(source) if brief else source, config, log_path, seed, on_output, rows)


def start(
    source: ScorerSource,
    config: GraderConfig,
    log_path: Path | None,
    seed: int,
    on_output: OnOutput | None = None,
    rows: Shape | None = None,
) -> ScorerGrader:
    """Start workers for the source and load it in one of them; raises UsageError with its own lines."""
    grader = ScorerGrader(source, config, log_path, seed, on_output, rows)
    try:
        grader.load()
    except BaseException:
        grader.close()
        raise
    return grader


def worker_count(config: GraderConfig, *, spare: int = 1) -> int:
    """Worker processes of `grader.workers`; auto: CPU cores less `spare`, at least 1, at most 8."""
    if config.workers != "auto":
        return config.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores - spare))


class ScorerGrader(Closing):
    """The Grader of a Python scorer. Use `open_grader`, and close it (or use it in a `with`).

    `signature` says how the scorer is called, `stats` counts every grade, `sha256` is of the scorer's bytes. `notes`
    say what its parameters get where that is a guess. The workers' own folders lie in `job_folder`, which `close`
    removes.
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
        self.signature = ""
        self._notes: tuple[str, ...] = ()
        self._rows = rows or Shape()
        self._report = LoadReport("", "", "", "", ())
        self._binding: Binding | None = None
        self._bound = b""
        self._on_output = on_output
        walled = config.sandbox == "openai"
        if walled:
            check_source(source)
        limits = limits_of(config)
        self._timeout_s = timeout_s = limits.timeout_s
        held = (config.judge.api_key_env, config.embeddings.api_key_env)
        withheld = secret_names(list(os.environ), config.env, held)
        environment = {name: value for name, value in os.environ.items() if name not in withheld}

        def job(scratch: str, log: str) -> Job:
            keep = on_output is not None
            isolation = Isolation(scratch, log, os.getpid(), tuple(withheld), keep_output=keep, walled=walled)
            return Job(source, isolation, timeout_s, limits.memory_mb, seed, config.fresh)

        self._workers = Workers(worker_count(config), log_path, environment, job)
        self.log_path = self._workers.log_path
        self.job_folder = self._workers.scratch
        lay_out(self.job_folder, source.path, source.content)
        self._mean_seconds: float | None = None
        self._fork_s = _FORK_S if config.fresh else 0.0

    def load(self) -> None:
        """Load the scorer in one worker; raises UsageError if it can't be used."""
        report = LoadReport(*pickle.loads(self._workers.load()))
        if report.output and self._on_output is not None:
            self._on_output(-1, report.output)
        if not report.signature:
            raise UsageError(report.message, self._load_fix(report))
        self.signature = report.signature
        self._report = report
        if self.source.inline or self._rows.keys is not None:
            self._bind(self._rows)
        else:
            self._check_without_rows()

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order."""
        share = -(-len(requests) // (4 * self._workers.count))
        if self._mean_seconds is not None:
            share = max(share, int(_MIN_CHUNK_SECONDS / max(self._mean_seconds, 1e-6)))
        return [grade for burst in self._grades(requests, max(1, min(MAX_CHUNK, share))) for grade in burst]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read; few of them are in flight."""
        return self._grades(requests, MAX_CHUNK)

    def stream_lines(self, lines: Lines, field: str) -> Iterator[GradedLines]:
        """The same for lines of JSON, whose completion is the string under `field`: workers parse and write them.

        The lines come back with their grade as last key. They end before a line that is no row with a completion.
        """

        def pack(place: int, raw: Sequence[bytes]) -> bytes:
            if self._binding is None:
                self._bind_by_line(raw, place, lines)
            return pickle.dumps((self._bound, (place, field, raw)), pickle.HIGHEST_PROTOCOL)

        def failed(place: int, raw: bytes, verdict: Verdict) -> Graded:
            block = Block(place, field, [raw])
            rows, bad = read_lines(block)
            return as_graded(block, rows, [verdict][: len(rows)], bad)

        for chunk in self._chunks(Codec(Kind.LINES, pack, pickle.loads, failed), lines, MAX_LINES):
            for offset, part in chunk.parts():
                self.stats.add_graded(part)
                self._learn(part.seconds)
                for line, output in part.outputs:
                    self._tell(chunk.place + offset + line, output)
                bad = None if part.bad is None else offset + part.bad
                yield GradedLines(
                    part.text, part.rows, None if bad is None else (chunk.place + bad, chunk.works[bad])
                )
                if bad is not None:
                    return

    def close(self) -> None:
        """End worker processes and whatever they left running; safe to call twice."""
        self._workers.close()

    def _grades(self, requests: Iterable[GradeRequest], most: int) -> Iterator[list[Grade]]:
        def pack(place: int, works: Sequence[Work]) -> bytes:
            return pickle.dumps((self._bound, [tuple(work) for work in works]), pickle.HIGHEST_PROTOCOL)

        def failed(place: int, work: Work, verdict: Verdict) -> list[tuple[Any, ...]]:
            return [tuple(verdict)]

        supply = Requests(requests, self._bind_by_request)
        for chunk in self._chunks(Codec(Kind.WORKS, pack, pickle.loads, failed), supply, most):
            verdicts = [Verdict(*plain) for _, part in chunk.parts() for plain in part]
            grades = [_as_grade(verdict) for verdict in verdicts]
            self.stats.add(grades)
            self._learn([verdict.seconds for verdict in verdicts])
            if self._on_output is not None:
                for work, verdict in zip(chunk.works, verdicts, strict=True):
                    self._tell(work.place, verdict.output)
            yield grades

    def _chunks(self, codec: Codec[W, R], supply: Supply[W], most: int) -> Iterator[Chunk[W, R]]:
        """Chunks in order, each when all of it is graded."""
        pending = Pending(self._workers, codec, self._timeout_s)
        waiting: deque[Chunk[W, R]] = deque()
        place = 0
        exhausted = False
        while waiting or not exhausted:
            if waiting and not waiting[0].open:
                yield waiting.popleft()
            elif exhausted or len(waiting) > 3 * self._workers.count:
                pending.collect()
            elif waiting and not supply.ready():
                pending.collect(_POLL_S)
            else:
                works = supply.take(self._chunk_size(most))
                exhausted = not works
                if works:
                    waiting.append(pending.launch(place, works))
                    place += len(works)
                    pending.collect(0)

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

    def _bind(self, shape: Shape) -> Binding:
        """Decide, once, what the scorer's parameters get; raises UsageError."""
        try:
            bound = Bound(OPENAI) if self.source.inline else bind(self._report.callee, shape)
        except SignatureProblem as problem:
            raise self._unusable(problem) from None
        self._binding, self._notes = bound
        self._bound = pickle.dumps(self._binding, pickle.HIGHEST_PROTOCOL)
        return self._binding

    def _unusable(self, problem: SignatureProblem) -> UsageError:
        name = self._report.callee.name
        return UsageError(f"{self._report.place}: {name} {problem}", f"use {SIGNATURES}")

    def _bind_by_request(self, request: GradeRequest) -> Binding:
        return self._binding or self._bind(shape_of_row(request.fields, request.place, self._rows.columns))

    def _bind_by_line(self, raw: Sequence[bytes], place: int, lines: Lines) -> None:
        """By the first line that is a row: where none is, nothing will be graded."""
        for offset, line in enumerate(raw):
            row = object_of(line) if line.strip() else None
            if row is not None:
                file, number = lines.where(place + offset)
                self._bind(shape_of_row(row, f"{file}:{number}", self._rows.columns))
                return

    def _tell(self, place: int, output: str) -> None:
        if output and self._on_output is not None:
            self._on_output(place, output)

    def _chunk_size(self, most: int) -> int:
        if self._mean_seconds is None:
            return _FIRST_CHUNK
        return max(1, min(most, int(_CHUNK_SECONDS / max(self._mean_seconds, 1e-6))))

    def _learn(self, seconds: Sequence[float]) -> None:
        """What a grade takes, to size the next chunks by."""
        if seconds:
            mean = sum(seconds) / len(seconds) + self._fork_s
            self._mean_seconds = mean if self._mean_seconds is None else 0.7 * self._mean_seconds + 0.3 * mean

    def _load_fix(self, report: LoadReport) -> str:
        wanted = self.source.function
        near = None if wanted is None else closest(wanted, report.found)
        return report.fix if near is None else f"did you mean '{self.source.shown}:{near}'? ({report.fix})"


def _as_grade(verdict: Verdict) -> Grade:
    if verdict.kind is not None:
        return Grade(
            "failed", error=GradeError(verdict.kind, verdict.message, verdict.trace), seconds=verdict.seconds
        )
    if verdict.reward is None:
        return Grade("skipped", seconds=verdict.seconds)
    return Grade("graded", verdict.reward, verdict.components, seconds=verdict.seconds)
