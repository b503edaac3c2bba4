"""A judge as a grader: asks about several completions at a time; its verdicts become grades."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import asdict

from rft_cli.config.judges import asked_model
from rft_cli.grading.feed import Feed
from rft_cli.grading.judge.cache import question_key
from rft_cli.grading.judge.session import BUDGET, JudgeSession
from rft_cli.grading.judge.task import JudgeTask, Render
from rft_cli.grading.judge.verdict import response_format, with_instruction
from rft_cli.types import Grade, GradeError, GradeRequest

_WAITING = 4
"""Requests that a stream reads ahead, for each one that may be in flight."""
_POLL_S = 0.02
"""Seconds between looks for a further request, while the first verdict is awaited."""


class JudgeGrader:
    """Grades by one judge. `render` makes messages of a completion and its row. `model` is the one that is asked.

    Raises UsageError where the endpoint can't be reached, refuses the key or does not know the model, and where the
    openai package is missing.
    """

    def __init__(self, task: JudgeTask, render: Render, session: JudgeSession) -> None:
        self.task = task
        self.model = asked_model(session.settings, task.model)
        self._parameters = task.parameters()
        self._format = response_format(task)
        # The name does not change the verdict.
        self._identity = {"endpoint": session.endpoint.url, **asdict(task), "model": self.model, "name": None}
        self._window = _WAITING * session.settings.concurrency
        self._render = render
        self._session = session
        session.check(self.model)

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order. RunFailed when the budget is spent."""
        return [grade for burst in self._grades(requests, len(requests)) for grade in burst]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read."""
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
        """The first grade, waited for, and those after it that are ready. RunFailed if the budget is spent."""
        grades: list[Grade] = []
        while waiting and (waiting[0].done() or not grades):
            grade = waiting[0].result()
            if grade.error is not None and grade.error.kind == BUDGET:
                break
            grades.append(grade)
            waiting.popleft()
        if not grades:
            # Requests in flight are paid for: their verdicts go into the cache.
            wait(waiting)
            raise self._session.usage.budget_spent()
        return grades
