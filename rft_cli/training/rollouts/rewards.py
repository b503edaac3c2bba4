"""The grader as TRL's reward function: completions in, rewards (or None) out, grades kept for the journal."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from rft_cli.grading.protocol import Grader
from rft_cli.training.distributed.group import agreed
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.types import Example, Grade, GradeError, GradeRequest, Sample

MOST_REWARD = 1e15
"""Largest size of a reward to train on: sums of squares, for standard deviations, must fit into 32 bits."""


@dataclass(slots=True)
class GradedBatch:
    """The grades of this process's part of one rollout batch, in order, and the seconds that grading took."""

    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0

    def rewards(self) -> list[float | None]:
        return [s.grade.reward if s.grade.status == "graded" else None for s in self.samples]


def grade_completions(
    grader: Grader,
    encoder: PromptEncoder,
    rows: Sequence[tuple[int, Example]],
    texts: Sequence[str],
    ids: Sequence[Sequence[int]],
    stop: Container[int],
    guard: Grader | None = None,
) -> list[Sample]:
    """Grade one completion for each of `rows` (number and example), given as text and as token ids.

    Graders get the whole answer, with the beginning that the prompt has of it. A completion that does not end with a
    `stop` token is truncated. `guard` grades the same.
    """
    answers = [encoder.begun(e) + text for (_, e), text in zip(rows, texts, strict=True)]
    truncated = [not i or i[-1] not in stop for i in ids]
    requests = [
        GradeRequest(text, e.fields, {"completion_tokens": len(i), "truncated": cut}, e.asked(), i)
        for (_, e), text, i, cut in zip(rows, answers, ids, truncated, strict=True)
    ]
    grades = grader.grade(requests)
    second = [None] * len(requests) if guard is None else guard.grade(requests)
    return [
        Sample(row, e.id, e.prompt_text(), text, len(i), cut, grade, other)
        for (row, e), text, i, cut, grade, other in zip(
            rows, answers, ids, truncated, grades, second, strict=True
        )
    ]


def trainable(grade: Grade) -> Grade:
    """The grade, or a failed one where its reward is too large to train on."""
    if grade.reward is None or abs(grade.reward) <= MOST_REWARD:
        return grade
    text = f"the reward {grade.reward:g} is too large to train on: {MOST_REWARD:g} is the most, scale it down"
    return replace(grade, status="failed", reward=None, components={}, error=GradeError("bad_value", text))


class GraderReward:
    """TRL calls this with lists; `row` is our own column, the index into the training examples."""

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
        self.last = GradedBatch()
        self.version: str | None = None
        """The weights that an engine sampled the next completions from; None without an engine."""

    def prompt_ids(self, rows: Sequence[int]) -> list[list[int]]:
        """Token ids of these rows' prompts; a group's rows stand side by side, and are encoded once."""
        distinct = list(dict.fromkeys(rows))
        ids = dict(
            zip(distinct, self._encoder.encode([self._examples[row] for row in distinct]), strict=True)
        )
        return [ids[row] for row in rows]

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        row: Sequence[int],
        **_: Any,
    ) -> list[float | None]:
        """One reward for each completion; None where there is no grade, which TRL and PPO mask out."""
        rows = [(i, self._examples[i]) for i in row]
        started = perf_counter()
        samples = agreed(
            lambda: grade_completions(
                self._grader, self._encoder, rows, completions, completion_ids, self._stop_tokens
            )
        )
        samples = [replace(s, grade=trainable(s.grade), version=self.version) for s in samples]
        self.last = GradedBatch(samples, perf_counter() - started)
        if self.on_graded is not None:
            self.on_graded(self.last)
        return self.last.rewards()
