"""A judge as a Grader: completions become messages, the judge's verdicts become grades, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rft_cli.config.judges import asked_model
from rft_cli.config.schema import JudgeConfig
from rft_cli.grading.feed import Feed
from rft_cli.grading.judge.book import JudgeBook, Judged
from rft_cli.grading.judge.cache import question_key
from rft_cli.grading.judge.client import Question
from rft_cli.grading.judge.task import JudgeTask, Render, sampling_parameters
from rft_cli.grading.judge.verdict import read_verdict, response_format, with_instruction
from rft_cli.grading.outcomes import GraderStats
from rft_cli.grading.protocol import Closing
from rft_cli.types import Grade, GradeError, GradeRequest, TokenUse

_WAITING = 4
"""In a stream, requests that wait or are being asked, for each one that may be in flight."""
_POLL_S = 0.02
"""While verdicts are waited for, how often it is looked whether a further request is there."""


def open_judge(task: JudgeTask, render: Render, settings: JudgeConfig, book: JudgeBook) -> JudgeGrader:
    """The judge, after it was seen to answer. `render` makes messages of a completion and its row.

    Raises UsageError where the endpoint is out of reach, turns down the key or does not know the model, and where
    the openai package is missing.
    """
    judge = JudgeGrader(task, render, settings, book)
    try:
        book.check(judge.model)
    except BaseException:
        judge.close()
        raise
    return judge


class JudgeGrader(Closing):
    """The Grader of one judge. Use `open_judge`, and close it (or use it in a `with`).

    `model` is the one that is asked, `signature` says who judges, `stats` counts every grade, `sha256` is of the task,
    the model and the endpoint. There is no log: `log_path` is None.
    """

    def __init__(self, task: JudgeTask, render: Render, settings: JudgeConfig, book: JudgeBook) -> None:
        self.task = task
        self.model = asked_model(settings, task.model)
        self.stats = GraderStats()
        self.stats.judges = book
        self.signature = f"{task.type} '{task.name}' by {self.model} at {book.endpoint.host}"
        self.log_path: Path | None = None
        self._parameters = sampling_parameters(task)
        self._format = response_format(task)
        # All but the name, by which no judge answers otherwise.
        self._identity = {"endpoint": book.endpoint.url, **asdict(task), "model": self.model, "name": None}
        self.sha256 = question_key(self._identity)
        self._window = _WAITING * settings.concurrency
        self._render = render
        self._book = book
        self._open = True
        book.join()

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order. RunFailed when the budget is spent."""
        return [grade for burst in self._grades(requests, len(requests)) for grade in burst]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        """Grades in order, some at a time, while requests are still being read; few of them are in flight."""
        return self._grades(requests, self._window)

    def close(self) -> None:
        """Leave the book, which closes with its last judge; safe to call twice."""
        if self._open:
            self._open = False
            self._book.leave()

    def _grades(self, requests: Iterable[GradeRequest], window: int) -> Iterator[list[Grade]]:
        waiting: deque[Future[Judged]] = deque()
        try:
            feed = Feed.of(requests)
            for request in feed:
                waiting.append(self._start(request))
                if waiting[0].done() or len(waiting) >= window:
                    yield from self._finished(waiting)
                while waiting and not feed.ready():
                    if wait([waiting[0]], _POLL_S).done:
                        yield from self._finished(waiting)
            while waiting:
                yield from self._finished(waiting)
        finally:
            for future in waiting:
                future.cancel()

    def _start(self, request: GradeRequest) -> Future[Judged]:
        messages = self._render(request)
        if isinstance(messages, GradeError):
            future: Future[Judged] = Future()
            future.set_result(Judged(messages))
            return future
        sent = with_instruction(self.task, messages)
        question = Question(self.model, sent, self._parameters, self._format)
        key = question_key({**self._identity, "messages": sent, "parameters": self._parameters})
        return self._book.ask(key, question, partial(read_verdict, self.task))

    def _finished(self, waiting: deque[Future[Judged]]) -> Iterator[list[Grade]]:
        """The first grade, waited for, and those after it that are there."""
        grades: list[Grade] = []
        while waiting and (waiting[0].done() or not grades):
            judged = waiting[0].result()
            if isinstance(judged.outcome, GradeError) and judged.outcome.kind == "judge_budget":
                break
            waiting.popleft()
            grades.append(self._grade_of(judged))
        self.stats.add(grades)
        if grades:
            yield grades
        else:
            # What is in flight is paid for: it ends, and goes into the cache.
            for future in waiting:
                future.result()
            raise self._book.budget_spent()

    def _grade_of(self, judged: Judged) -> Grade:
        tokens = judged.tokens
        used = {self.model: None if tokens is None else TokenUse(tokens.input, tokens.output)}
        if isinstance(judged.outcome, GradeError):
            asked = judged.outcome.kind.startswith("judge_")
            return Grade("failed", error=judged.outcome, seconds=judged.seconds, usage=used if asked else {})
        if judged.outcome.clamped:
            self._book.count_clamped()
        return Grade("graded", judged.outcome.reward, seconds=judged.seconds, usage=used)
