"""The grader as TRL's reward function: completions in, rewards (or None) out, grades kept for the journal."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from rft_cli.grading.protocol import GradedRequests, Grader
from rft_cli.training.distributed.group import agreed
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.types import Example, Grade, GradeError, GradeRequest, Sample

MOST_REWARD = 1e15
"""Largest size of a reward to train on: sums of squares, for standard deviations, must fit into 32 bits."""


Rows = Sequence[tuple[int, Example]]
"""Row numbers and examples, one a completion."""


@dataclass(slots=True)
class GradedBatch:
    """The grades of this process's part of one rollout batch, in order.

    `seconds` is how long grading took, `waited` how much of that training waited for; `judges` is what judges had
    counted by the end of it.
    """

    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0
    judges: Mapping[str, float] = field(default_factory=dict)

    def rewards(self) -> list[float | None]:
        return [s.grade.reward if s.grade.status == "graded" else None for s in self.samples]


def grade_completions(
    grader: Grader,
    encoder: PromptEncoder,
    rows: Rows,
    texts: Sequence[str],
    ids: Sequence[Sequence[int]],
    stop: Container[int],
    guard: Grader | None = None,
) -> list[Sample]:
    """Grade one completion for each of `rows`, given as text and as token ids; `guard` grades the same."""
    requests = requests_of(encoder, rows, texts, ids, stop)
    grades = grader.grade(requests)
    return samples_of(rows, requests, grades, None if guard is None else guard.grade(requests))


def requests_of(
    encoder: PromptEncoder,
    rows: Rows,
    texts: Sequence[str],
    ids: Sequence[Sequence[int]],
    stop: Container[int],
) -> list[GradeRequest]:
    """What graders get: the whole answer, with the beginning that the prompt has of it.

    A completion that does not end with a `stop` token is truncated.
    """
    return [
        GradeRequest(
            encoder.begun(example) + text,
            example.fields,
            {"completion_tokens": len(i), "truncated": not i or i[-1] not in stop},
            example.asked(),
            i,
        )
        for (_, example), text, i in zip(rows, texts, ids, strict=True)
    ]


def samples_of(
    rows: Rows, requests: Sequence[GradeRequest], grades: Sequence[Grade], guard: Sequence[Grade] | None
) -> list[Sample]:
    """The requests with their grades, and with the guard's where there is one."""
    seconds: Sequence[Grade | None] = [None] * len(requests) if guard is None else guard
    return [
        Sample(
            row,
            example.id,
            example.prompt_text(),
            request.completion,
            request.metadata["completion_tokens"],
            request.metadata["truncated"],
            grade,
            second,
        )
        for (row, example), request, grade, second in zip(rows, requests, grades, seconds, strict=True)
    ]


def trainable(grade: Grade) -> Grade:
    """The grade, or a failed one where its reward is too large to train on."""
    if grade.reward is None or abs(grade.reward) <= MOST_REWARD:
        return grade
    text = f"the reward {grade.reward:g} is too large to train on: {MOST_REWARD:g} is the most, scale it down"
    return replace(grade, status="failed", reward=None, components={}, error=GradeError("bad_value", text))


@dataclass(frozen=True, slots=True)
class Grading:
    """The completions of a rollout batch whose grading has begun.

    `version`: the weights that an engine sampled them from; None without an engine.
    """

    rows: Rows
    requests: Sequence[GradeRequest]
    future: Future[GradedRequests]
    version: str | None = None


class GraderReward:
    """Starts to grade a rollout batch, and gives TRL the rewards of the one that is its turn, `current`."""

    __name__ = "grader"

    def __init__(
        self,
        grader: Grader,
        examples: Sequence[Example],
        stop_tokens: Sequence[int],
        encoder: PromptEncoder,
    ) -> None:
        self._grader = grader
        self._examples = examples
        self._encoder = encoder
        self._stop_tokens = frozenset(stop_tokens)
        self.on_graded: Callable[[GradedBatch], None] | None = None
        self.current: Grading | None = None
        self.last = GradedBatch()

    def prompt_ids(self, rows: Sequence[int]) -> list[list[int]]:
        """Token ids of these rows' prompts; a group's rows stand side by side, and are encoded once."""
        distinct = list(dict.fromkeys(rows))
        ids = dict(
            zip(distinct, self._encoder.encode([self._examples[row] for row in distinct]), strict=True)
        )
        return [ids[row] for row in rows]

    def start(
        self,
        rows: Sequence[int],
        texts: Sequence[str],
        ids: Sequence[Sequence[int]],
        version: str | None = None,
    ) -> Grading:
        """Begin to grade one completion, as text and as token ids, for each of these rows."""
        pairs = [(row, self._examples[row]) for row in rows]
        requests = requests_of(self._encoder, pairs, texts, ids, self._stop_tokens)
        return Grading(pairs, requests, self._grader.start(requests), version)

    def __call__(self, **_: Any) -> list[float | None]:
        """One reward for each completion; None where there is no grade, which TRL and PPO mask out."""
        grading, self.current = self.current, None
        assert grading is not None
        started = perf_counter()
        graded = agreed(grading.future.result)
        waited = perf_counter() - started
        samples = samples_of(grading.rows, grading.requests, graded.grades, None)
        samples = [replace(s, grade=trainable(s.grade), version=grading.version) for s in samples]
        self.last = GradedBatch(samples, graded.seconds, waited, graded.judges)
        if self.on_graded is not None:
            self.on_graded(self.last)
        return self.last.rewards()
