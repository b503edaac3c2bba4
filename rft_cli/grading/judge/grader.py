"""A judge as a Grader: completions become messages, the judge's verdicts become grades, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import asdict
from pathlib import Path

from rft_cli.config.judges import asked_model
from rft_cli.grading.feed import Feed
from rft_cli.grading.judge.cache import question_key
from rft_cli.grading.judge.session import BUDGET, JudgeSession
from rft_cli.grading.judge.task import JudgeTask, Render, sampling_parameters
from rft_cli.grading.judge.verdict import response_format, with_instruction
from rft_cli.grading.protocol import Grader
from rft_cli.grading.stats import GraderStats
from rft_cli.types import Grade, GradeError, GradeRequest

_WAITING = 4
"""In a stream, requests that wait or are being asked, for each one that may be in flight."""
_POLL_S = 0.02
"""While verdicts are waited for, how often it is looked whether a further request is there."""


class JudgeGrader(Grader):
    """The Grader of one judge, after it was seen to answer. Close it, or use it in a `with`.

    `render` makes messages of a completion and its row. `model` is the one that is asked, `signature` says who judges,
    `stats` counts every grade, `sha256` is of the task, the model and the endpoint. `log_path` is None.

    Raises UsageError where the endpoint is out of reach, turns down the key or does not know the model, and where
    the openai package is missing.
    """

    def __init__(self, task: JudgeTask, render: Render, session: JudgeSession) -> None:
        self.task = task
        self.model = asked_model(session.settings, task.model)
        self.stats = GraderStats()
        self.stats.judges = session.usage
        self.signature = f"{task.type} '{task.name}' by {self.model} at {session.endpoint.host}"
        self.log_path: Path | None = None
        self._parameters = sampling_parameters(task)
        self._format = response_format(task)
        # All but the name, by which no judge answers otherwise.
        self._identity = {"endpoint": session.endpoint.url, **asdict(task), "model": self.model, "name": None}
        self.sha256 = question_key(self._identity)
        self._window = _WAITING * session.settings.concurrency
        self._render = render
        self._session = session
        session.check(self.model)

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order. RunFailed when the budget is spent."""
        return [grade for burst in self._grades(requests, len(requests)) for grade in burst]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read; few of them are in flight."""
        return self._grades(requests, self._window)

    def close(self) -> None:
        """Close the session, which opens again if another judge asks; safe to call twice."""
        self._session.close()

    def _grades(self, requests: Iterable[GradeRequest], window: int) -> Iterator[list[Grade]]:
        waiting: deque[Future[Grade]] = deque()
        try:
            feed = Feed.of(requests)
            for request in feed:
                waiting.append(self._start(request))
                if waiting[0].done() or len(waiting) >= window:
                    yield self._finished(waiting)
                while waiting and not feed.ready():
                    if wait([waiting[0]], _POLL_S).done:
                        yield self._finished(waiting)
            while waiting:
                yield self._finished(waiting)
        finally:
            for future in waiting:
                future.cancel()

    def _start(self, request: GradeRequest) -> Future[Grade]:
        messages = self._render(request)
        if isinstance(messages, GradeError):
            future: Future[Grade] = Future()
            future.set_result(Grade("failed", error=messages))
            return future
        sent = with_instruction(self.task, messages)
        key = question_key({**self._identity, "messages": sent, "parameters": self._parameters})
        body = {"model": self.model, "messages": sent, **self._parameters, "response_format": self._format}
        return self._session.ask(key, body, self.task)

    def _finished(self, waiting: deque[Future[Grade]]) -> list[Grade]:
        """The first grade, waited for, and those after it that are there. RunFailed if the first met the budget."""
        grades: list[Grade] = []
        while waiting and (waiting[0].done() or not grades):
            grade = waiting[0].result()
            if grade.error is not None and grade.error.kind == BUDGET:
                break
            grades.append(grade)
            waiting.popleft()
        if not grades:
            # What is in flight is paid for: it ends, and goes into the cache.
            wait(waiting)
            raise self._session.budget_spent()
        self.stats.add(grades)
        return grades
