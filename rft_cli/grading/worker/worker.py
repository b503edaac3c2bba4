"""Grades in a worker process: loads the scorer once, grades completions, survives what a scorer does.

Runs in the main thread of a process of its own, so that SIGALRM can end a Python loop. A loop in C is ended by
faulthandler's watchdog, which needs no interpreter: it writes a traceback and ends the process.

What is used while a scorer runs is bound to names of this module: a scorer may replace the others.
"""

from __future__ import annotations

import faulthandler
import pickle
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any

from rft_cli.grading.isolation.process import Interpreter, IsolatedProcess, limit_memory
from rft_cli.grading.worker.alarm import Alarm, TimeIsUp
from rft_cli.grading.worker.arguments import Call, scores_of
from rft_cli.grading.worker.load import LoadedScorer, ScorerProblem, describe, let_find, load_scorer
from rft_cli.grading.worker.messages import (
    GRACE_S,
    IMPORT_LIMIT_S,
    WHOLE,
    Item,
    LoadReport,
    Outcome,
    Work,
    WorkerSetup,
    item_of,
    late_message,
    map_begun,
)
from rft_cli.grading.worker.return_values import BadValue, Returned, read_batch, read_return
from rft_cli.grading.worker.seeds import Seeds
from rft_cli.grading.worker.signature import OPENAI

_REARM_S = 0.25

_now, _base_exception, _loads = time.perf_counter, BaseException, pickle.loads
_watch, _unwatch = faulthandler.dump_traceback_later, faulthandler.cancel_dump_traceback_later
_hasattr, _isinstance, _len, _type, _dict = hasattr, isinstance, len, type, dict
_NOT_AWAITED = frozenset({float, int, bool, dict, list, type(None)})


class Worker:
    """The state of this process: there is one scorer in it.

    `folder` is its own, which exists; `pipes` are the descriptors that it talks by. `begun` holds the place of the
    completion that it has begun, for the parent to see.
    """

    def __init__(self, setup: WorkerSetup, folder: str, pipes: tuple[int, ...]) -> None:
        self.setup = setup
        self.openai = setup.openai
        self.begun = map_begun(f"{folder}.begun")
        self.process = IsolatedProcess(setup.isolation, folder, pipes, setup.source.home)
        let_find(setup.isolation.scratch)
        self.alarm = Alarm(setup.timeout_s)
        self.interpreter = Interpreter()
        self.seeds = Seeds(setup.seed, setup.source.content)
        self.scorer: LoadedScorer | None = None
        self.function: Callable[..., Any]
        self.report: LoadReport | None = None
        self.bound, self.call = b"", Call(OPENAI, {})
        self.is_batch = self.is_aws = False
        self.watched_at = 0.0
        self.runner: Any = None

    def load(self) -> LoadReport:
        """Run the scorer file."""
        self.watch(IMPORT_LIMIT_S)
        if self.setup.memory_mb is not None:
            limit_memory(self.setup.memory_mb)
        try:
            self.scorer = scorer = load_scorer(self.setup.source, openai=self.openai)
            self.function = scorer.function
            if iscoroutinefunction(scorer.function):
                # Now: the first grade's time limit is not for this import.
                import_module("asyncio")
            report = LoadReport(scorer.signature, "", "", "", (), place=scorer.place, callee=scorer.callee)
            self.interpreter = Interpreter()
        except ScorerProblem as problem:
            message = self.explained(problem.message, problem.trace)
            report = LoadReport("", message, problem.fix, problem.trace, problem.found)
        self.process.leave_if_forked()
        _unwatch()
        self.process.streams.flush()
        self.report = report._replace(output=self.process.streams.take())
        return self.report

    def bind(self, bound: bytes) -> None:
        """From now on call the scorer by this pickled binding."""
        if bound != self.bound and self.scorer is not None:
            binding = _loads(bound)
            self.bound, self.call = bound, Call(binding, self.scorer.defaults)
            self.is_batch, self.is_aws = binding.batch, binding.dialect == "aws"

    def grade(self, works: Sequence[Work]) -> list[Outcome]:
        """Grade the first works, at least one: as many as fit into the time slice."""
        if self.scorer is None and self.report is not None:
            return [Outcome(None, {}, "raised", self.report.message, self.report.trace, 0.0) for _ in works]
        return self.grade_loaded(works)

    def grade_loaded(self, works: Sequence[Work]) -> list[Outcome]:
        """The same, where the scorer is loaded."""
        start = _now()
        outcomes: list[Outcome] = []
        self.watch_grade()
        self.process.streams.redirect()
        if self.is_batch and _len(works) > 1:
            outcomes = self.grade_batch(works)
        for work in works[_len(outcomes) :]:
            now = _now()
            if outcomes and now - start > self.setup.slice_s:
                break
            if now - self.watched_at > _REARM_S:
                self.watch_grade()
            outcomes.append(self.grade_one(work))
        self.alarm.stop()
        self.process.leave_if_forked()
        _unwatch()
        self.process.streams.flush()
        # Output that was still buffered when its own grade ended.
        if output := self.process.streams.take():
            outcomes[-1] = outcomes[-1]._replace(output=outcomes[-1].output + output)
        return outcomes

    def grade_one(self, work: Work) -> Outcome:
        """One grade; whatever the scorer does short of ending the process becomes an outcome."""
        item = self.prepare(work)
        start = _now()
        try:
            try:
                self.alarm.begin()
                returned = self.returned_for(item)
            finally:
                self.restore()
            if self.alarm.rang:
                outcome = self.late(start)
            else:
                outcome = Outcome(returned.reward, returned.components, None, "", "", _now() - start)
        except TimeIsUp as error:
            outcome = self.late(start, error)
        except _base_exception as error:
            # The alarm may have been turned into another exception on its way up.
            outcome = self.late(start, error) if self.alarm.rang else self.failed(error, _now() - start)
        output = self.process.streams.take()
        return outcome._replace(output=output) if output else outcome

    def returned_for(self, item: Item) -> Returned:
        """Call the scorer and read what it returns; raises what it raises, or BadValue."""
        if self.is_batch:
            return self.read(self.listed(self.call_batch([item]), 1)[0])
        try:
            value = self.call.call(self.function, item)
            if _type(value) not in _NOT_AWAITED and not self.openai:
                value = self.awaited(value)
        finally:
            # Before rft's own code runs: it needs the built-ins that a scorer may have replaced.
            self.interpreter.restore()
        return self.read(value)

    def call_batch(self, items: Sequence[Item]) -> Any:
        """Call a batch scorer."""
        try:
            return self.awaited(self.call.call_batch(self.function, items))
        finally:
            self.interpreter.restore()

    def grade_batch(self, works: Sequence[Work]) -> list[Outcome]:
        """One call for all works. Where it fails as a whole, nothing: then each is graded in a call of its own."""
        items = [self.prepare(work) for work in works]
        self.begun[0] = WHOLE
        start = _now()
        values = []
        try:
            try:
                self.alarm.begin()
                values = self.listed(self.call_batch(items), len(items))
            finally:
                self.restore()
        except _base_exception:
            # Once more: the alarm may have come in the middle of the first.
            self.alarm.end()
            values = []
        output = self.process.streams.take()
        if self.alarm.rang or not values:
            return []
        seconds = (_now() - start) / _len(works)
        outcomes = [self.outcome_of(value, seconds) for value in values]
        outcomes[0] = outcomes[0]._replace(output=output)
        return outcomes

    def outcome_of(self, value: Any, seconds: float) -> Outcome:
        """The outcome of one value of a batch."""
        try:
            returned = self.read(value)
        except BadValue as bad:
            return self.failed(bad, seconds)
        return Outcome(returned.reward, returned.components, None, "", "", seconds)

    def listed(self, value: Any, count: int) -> list[Any]:
        """The values of a batch, in order; raises BadValue."""
        return scores_of(value, count) if self.is_aws else read_batch(value, count)

    def read(self, value: Any) -> Returned:
        """The reward in what the scorer returned; raises BadValue."""
        returned = read_return(value)
        if self.openai and (returned.reward is None or _isinstance(value, _dict)):
            raise BadValue(f"returned {_type(value).__name__}, and OpenAI's graders return a number")
        return returned

    def prepare(self, work: Work) -> Item:
        """The same start for every grade: folder, streams and random numbers."""
        self.begun[0] = work[0]
        if self.process.moved:
            self.process.go_home()
        self.process.streams.repair()
        self.seeds.begin(work[0])
        return item_of(work)

    def restore(self) -> None:
        """After the scorer's call, however it ended."""
        self.alarm.end()
        self.process.leave_if_forked()

    def awaited(self, value: Any) -> Any:
        """The result of an async scorer; any other value as it is."""
        if not _hasattr(_type(value), "__await__"):
            return value
        if self.runner is None:
            # Only async scorers pay for it; most of them when they are loaded.
            import asyncio

            self.runner = asyncio.Runner()
        return self.runner.run(_awaited(value))

    def watch(self, seconds: float) -> None:
        """Let the watchdog end this process after `seconds`."""
        _watch(seconds, exit=True, file=self.process.faults)
        self.watched_at = _now()

    def watch_grade(self) -> None:
        """The same for a grade that the alarm does not end."""
        self.watch(self.setup.timeout_s + GRACE_S)

    def failed(self, error: BaseException, seconds: float) -> Outcome:
        """The outcome of a grade that raised, or whose value is not a reward."""
        if _isinstance(error, BadValue):
            message = self.explained(f"{self.setup.source.shown}: {error}")
            return Outcome(None, {}, "bad_value", message, "", seconds)
        place, text, trace = describe(error, self.setup.source)
        return Outcome(None, {}, "raised", self.explained(f"{place}: {text}", trace), trace, seconds)

    def late(self, start: float, error: BaseException | None = None) -> Outcome:
        """The outcome of a grade that ran out of time."""
        # Once more: the alarm may have come in the middle of the first.
        self.restore()
        self.interpreter.restore()
        # An interrupted event loop can't be used again.
        self.runner = None
        place, trace = self.setup.source.shown, ""
        if error is not None:
            place, _, trace = describe(error, self.setup.source)
        message = late_message(place, self.setup.timeout_s)
        return Outcome(None, {}, "timeout", message, trace, _now() - start)

    def explained(self, message: str, trace: str = "") -> str:
        """The message; if it or its traceback names a withheld variable, with a note that it was withheld."""
        for name in self.process.withheld:
            if name in message or name in trace:
                return f"{message} ({name} is withheld from scorers: allow it with --grader-env {name}, or grader.env)"
        return message


async def _awaited(value: Any) -> Any:
    return await value
