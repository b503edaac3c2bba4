"""Grades in a worker process: load the scorer once, grade chunks, survive what a scorer does.

Runs in the main thread of a process of its own, so that SIGALRM can end a Python loop. A loop in C is ended by
faulthandler's watchdog, which needs no interpreter: it writes a traceback and ends the process.

What is used while a scorer runs is bound to names of this module: a scorer may replace the others.
"""

from __future__ import annotations

import faulthandler
import pickle
import time
from collections.abc import Sequence
from typing import Any

from rft_cli.grading.isolation import process as isolation
from rft_cli.grading.wire.frames import WHOLE, map_begun
from rft_cli.grading.wire.messages import GRACE_S, IMPORT_LIMIT_S, Job, LoadReport, late_message
from rft_cli.grading.wire.work import Item, Line, Verdict, Work
from rft_cli.grading.worker.alarm import Alarm, TimeIsUp
from rft_cli.grading.worker.arguments import Call
from rft_cli.grading.worker.binding import OPENAI
from rft_cli.grading.worker.lambda_event import scores_of
from rft_cli.grading.worker.load import LoadedScorer, ScorerProblem, load_scorer, tell
from rft_cli.grading.worker.seeds import Seeds
from rft_cli.grading.worker.values import BadValue, Reading, read_batch, read_return

_REARM_S = 0.25

_now, _base_exception, _loads = time.perf_counter, BaseException, pickle.loads
_watch, _unwatch = faulthandler.dump_traceback_later, faulthandler.cancel_dump_traceback_later
_hasattr, _len, _type = hasattr, len, type


class Worker:
    """The state of this process: there is one scorer in it.

    `folder` is its own, which exists; `pipes` are the descriptors that it talks by. `begun` holds the place of the
    completion that it has begun, for the parent to see.
    """

    def __init__(self, job: Job, folder: str, pipes: tuple[int, ...]) -> None:
        self.job = job
        self.slice_s, self.openai = job.slice_s, job.openai
        self.begun = map_begun(f"{folder}.begun")
        self.cell = isolation.enter(job.isolation, folder, pipes, job.source.home)
        self.seeds = Seeds(job.seed)
        self.alarm = Alarm(job.timeout_s)
        self.interpreter = isolation.Interpreter()
        self.scorer: LoadedScorer | None = None
        self.bound, self.call = b"", Call(OPENAI, {})
        self.is_batch = self.is_aws = False
        self.report: LoadReport | None = None
        self.watched_at = 0.0
        self.runner: Any = None

    def load(self) -> LoadReport:
        """Run the scorer file, unless that happened already."""
        if self.report is None:
            self.watch(IMPORT_LIMIT_S)
            if self.job.memory_mb is not None:
                isolation.limit_memory(self.job.memory_mb)
            report = self.run_file()
            self.cell.leave_if_forked()
            _unwatch()
            self.cell.streams.flush()
            self.report = report._replace(output=self.cell.streams.take())
        return self.report

    def run_file(self) -> LoadReport:
        """What comes of loading the scorer, but for what it prints."""
        try:
            self.scorer = scorer = load_scorer(self.job.source, openai=self.openai)
        except ScorerProblem as problem:
            message = self.explained(problem.message, problem.trace)
            return LoadReport("", message, problem.fix, problem.trace, problem.found)
        self.interpreter = isolation.Interpreter()
        return LoadReport(scorer.signature, "", "", "", (), place=scorer.place, callee=scorer.callee)

    def bind(self, bound: bytes) -> None:
        """From now on call the scorer by this pickled binding."""
        if bound != self.bound and self.scorer is not None:
            binding = _loads(bound)
            self.bound, self.call = bound, Call(binding, self.scorer.defaults)
            self.is_batch, self.is_aws = binding.batch, binding.dialect == "aws"

    def chunk(self, works: Sequence[Work] | Sequence[Line]) -> list[Verdict]:
        """Grade the first works of the chunk, at least one: as many as fit into the time slice."""
        report = self.load()
        if self.scorer is None:
            return [Verdict(None, {}, "raised", report.message, report.trace, 0.0) for _ in works]
        return self.grades(works)

    def grades(self, works: Sequence[Work] | Sequence[Line]) -> list[Verdict]:
        """The same, where the scorer is loaded."""
        start = _now()
        verdicts: list[Verdict] = []
        self.watch(self.job.timeout_s + GRACE_S)
        self.cell.go_home(surely=True)
        if self.is_batch and _len(works) > 1:
            verdicts = self.batch(works)
        for work in works[_len(verdicts) :]:
            now = _now()
            if verdicts and now - start > self.slice_s:
                break
            if now - self.watched_at > _REARM_S:
                self.watch(self.job.timeout_s + GRACE_S)
            verdicts.append(self.single(work))
        self.alarm.rest()
        self.cell.leave_if_forked(surely=True)
        _unwatch()
        self.cell.streams.flush()
        if output := self.cell.streams.take():  # what did not show after its own grade
            verdicts[-1] = verdicts[-1]._replace(output=verdicts[-1].output + output)
        return verdicts

    def single(self, work: Work | Line) -> Verdict:
        """One grade; whatever the scorer does short of ending the process becomes a verdict."""
        verdict = self.attempt(self.prepare(work))
        output = self.cell.streams.take()
        return verdict._replace(output=output) if output else verdict

    def attempt(self, item: Item) -> Verdict:
        assert self.scorer is not None
        call, function = self.call, self.scorer.function
        start = _now()
        try:
            try:
                self.alarm.begin()
                if self.is_batch:
                    value = self.listed(self.resolve(call.call_batch(function, [item])), 1)[0]
                else:
                    value = call.call(function, item)
                    if _hasattr(_type(value), "__await__") and not self.openai:
                        value = self.resolve(value)
                reading = self.read(value)
            finally:
                self.restore()
            if self.alarm.rang:
                return self.late(start)
            return Verdict(reading.reward, reading.components, None, "", "", _now() - start)
        except TimeIsUp as error:
            return self.late(start, error)
        except BadValue as bad:
            if self.alarm.rang:
                return self.late(start)
            return Verdict(
                None, {}, "bad_value", self.explained(f"{self.job.source.shown}: {bad}"), "", _now() - start
            )
        except _base_exception as error:
            if self.alarm.rang:  # the alarm, turned into another exception on its way up
                return self.late(start, error)
            place, text, trace = tell(error, self.job.source)
            return Verdict(
                None, {}, "raised", self.explained(f"{place}: {text}", trace), trace, _now() - start
            )

    def batch(self, works: Sequence[Work] | Sequence[Line]) -> list[Verdict]:
        """One call for all works. Where it fails as a whole, nothing: then each is graded in a call of its own."""
        assert self.scorer is not None
        items = [self.prepare(work) for work in works]
        self.begun[0] = WHOLE
        start = _now()
        try:
            try:
                self.alarm.begin()
                values = self.listed(
                    self.resolve(self.call.call_batch(self.scorer.function, items)), len(items)
                )
            finally:
                self.restore()
        except _base_exception:
            self.alarm.end()  # once more: the alarm may have come in the middle of the first
            values = []
        output = self.cell.streams.take()
        if self.alarm.rang or not values:
            return []
        seconds = (_now() - start) / _len(works)
        verdicts = [self.read_one(value, seconds) for value in values]
        verdicts[0] = verdicts[0]._replace(output=output)
        return verdicts

    def listed(self, value: Any, count: int) -> list[Any]:
        """The values of a batch, in order; raises BadValue."""
        return scores_of(value, count) if self.is_aws else read_batch(value, count)

    def read(self, value: Any) -> Reading:
        """The reward in what the scorer returned; raises BadValue."""
        reading = read_return(value)
        if self.openai and (reading.reward is None or isinstance(value, dict)):
            raise BadValue(f"returned {_type(value).__name__}, and OpenAI's graders return a number")
        return reading

    def read_one(self, value: Any, seconds: float) -> Verdict:
        try:
            reading = self.read(value)
        except BadValue as bad:
            return Verdict(None, {}, "bad_value", f"{self.job.source.shown}: {bad}", "", seconds)
        return Verdict(reading.reward, reading.components, None, "", "", seconds)

    def prepare(self, work: Work | Line) -> Item:
        """The same start for every grade: folder, streams and random numbers."""
        self.begun[0] = work.place
        self.cell.go_home()
        self.cell.streams.repair()
        self.seeds.begin(work.place)
        return work.item()

    def restore(self) -> None:
        """After the scorer's call, however it ended."""
        self.alarm.end()
        self.cell.leave_if_forked()
        self.interpreter.restore()

    def resolve(self, value: Any) -> Any:
        """The result of an async scorer; any other value as it is."""
        if not _hasattr(_type(value), "__await__"):
            return value
        if self.runner is None:
            import asyncio  # only async scorers pay for it

            self.runner = asyncio.Runner()
        return self.runner.run(_awaited(value))

    def watch(self, seconds: float) -> None:
        _watch(seconds, exit=True, file=self.cell.faults)
        self.watched_at = _now()

    def late(self, start: float, error: BaseException | None = None) -> Verdict:
        self.restore()  # once more: the alarm may have come in the middle of the first
        self.runner = None  # an event loop that was interrupted is of no more use
        place, trace = self.job.source.shown, ""
        if error is not None:
            place, _, trace = tell(error, self.job.source)
        return Verdict(None, {}, "timeout", late_message(place, self.job.timeout_s), trace, _now() - start)

    def explained(self, message: str, trace: str = "") -> str:
        """The message, and if it or its traceback names a withheld variable, that it was withheld."""
        for name in self.cell.withheld:
            if name in message or name in trace:
                return f"{message} ({name} is withheld from scorers: allow it with --grader-env {name}, or grader.env)"
        return message


async def _awaited(value: Any) -> Any:
    return await value
