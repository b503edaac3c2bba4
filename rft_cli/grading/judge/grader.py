"""A judge as a grader: asks about several completions at a time; its verdicts become grades."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any

from rft_cli.config.judges import asked_model
from rft_cli.grading.judge.cache import question_key
from rft_cli.grading.judge.session import BUDGET, JudgeSession
from rft_cli.grading.judge.verdict import response_format, with_instruction
from rft_cli.grading.openai.schema import JudgeModel, LabelModel, ScoreModel
from rft_cli.grading.openai.templates import Missing, Scope, parse_template
from rft_cli.grading.protocol import Feed, PartGrader
from rft_cli.types import Grade, GradeRequest, Message

_WAITING = 4
"""Requests that a stream reads ahead, for each one that may be in flight."""
_POLL_S = 0.02
"""Seconds between looks for a further request, while the first verdict is awaited."""


class JudgeGrader(PartGrader):
    """Grades by the judge of a spec. `model` is the one that is asked.

    Raises UsageError where the endpoint can't be reached, refuses the key or does not know the model, and where the
    openai package is missing.
    """

    def __init__(self, spec: JudgeModel, session: JudgeSession) -> None:
        self.model = asked_model(session.settings, spec.model)
        self._spec = spec
        self._session = session
        self._messages = [
            (message.role, [parse_template(text) for text in message.content]) for message in spec.input
        ]
        sampling = spec.sampling_params if isinstance(spec, ScoreModel) else None
        self._sampling = {} if sampling is None else sampling.model_dump(exclude_none=True)
        # Specs spell the length limit with an s, chat completions without.
        self._parameters = {
            "max_completion_tokens" if name == "max_completions_tokens" else name: value
            for name, value in self._sampling.items()
        }
        self._format = response_format(spec)
        self._window = _WAITING * session.settings.concurrency
        session.check(self.model)

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        """One grade for each request, in order. RunFailed when the budget is spent."""
        return [grade for burst in self._grades(requests, len(requests)) for grade in burst]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
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
        try:
            messages = self._render(Scope(request))
        except Missing as missing:
            future: Future[Grade] = Future()
            future.set_result(Grade("failed", error=missing.error))
            return future
        sent = with_instruction(self._spec, messages)
        key = question_key({**self._identity(), "messages": sent, "parameters": self._parameters})
        body = {"model": self.model, "messages": sent, **self._parameters, "response_format": self._format}
        return self._session.ask(key, body, self._spec)

    def _render(self, scope: Scope) -> list[Message]:
        """The judge's messages about a completion; parts of one message become its paragraphs."""
        return [
            Message(role=role, content="\n\n".join(part.render(scope) for part in parts))
            for role, parts in self._messages
        ]

    def _identity(self) -> dict[str, Any]:
        """What a verdict depends on beside the messages. The spec's name does not matter."""
        spec = self._spec
        low, high = spec.bounds() if isinstance(spec, ScoreModel) else (0.0, 1.0)
        labels = (spec.labels, spec.passing_labels) if isinstance(spec, LabelModel) else ([], [])
        return {
            "endpoint": self._session.endpoint.url,
            "name": None,
            "kind": spec.type.removesuffix("_model"),
            "model": self.model,
            "low": low,
            "high": high,
            "labels": labels[0],
            "passing_labels": labels[1],
            "sampling": self._sampling,
        }

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
