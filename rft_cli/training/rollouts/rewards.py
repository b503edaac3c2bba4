"""The grader as TRL's reward function: completions in, rewards (or None) out, grades kept for the books."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from rft_cli.grading.protocol import Grader
from rft_cli.training.distributed.group import agreed
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.types import Example, Grade, GradeError, GradeRequest, Sample

MOST_REWARD = 1e15
"""Largest size of a reward that can be trained on: sums of its squares, for deviations, must fit into 32 bits."""


@dataclass(slots=True)
class GradedBatch:
    """The grades of this process's part of one rollout batch, in order, and the seconds that grading took."""

    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0

    def rewards(self) -> list[float | None]:
        return [s.grade.reward if s.grade.status == "graded" else None for s in self.samples]


def trainable(grade: Grade) -> Grade:
    """The grade, or a failed one where its reward is too large to train on."""
    if grade.reward is None or abs(grade.reward) <= MOST_REWARD:
        return grade
    told = f"the reward {grade.reward:g} is too large to train on: {MOST_REWARD:g} is the most, scale it down"
    return replace(grade, status="failed", reward=None, components={}, error=GradeError("bad_value", told))


class GraderReward:
    """TRL calls this with lists; `row` is our own column, the index into the training examples.

    What is graded is the whole answer: with the beginning that the prompt has of it.
    """

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
        examples = [self._examples[i] for i in row]
        texts = [self._encoder.begun(e) + c for e, c in zip(examples, completions, strict=True)]
        truncated = [not ids or ids[-1] not in self._stop_tokens for ids in completion_ids]
        requests = [
            GradeRequest(t, e.fields, {"completion_tokens": len(ids), "truncated": cut}, e.asked(), ids)
            for t, e, ids, cut in zip(texts, examples, completion_ids, truncated, strict=True)
        ]
        started = perf_counter()
        grades: list[Grade] = agreed(lambda: self._grader.grade(requests))
        samples = [
            Sample(i, e.id, e.prompt_text(), t, len(ids), cut, trainable(g))
            for i, e, t, ids, cut, g in zip(
                row, examples, texts, completion_ids, truncated, grades, strict=True
            )
        ]
        self.last = GradedBatch(samples, perf_counter() - started)
        if self.on_graded is not None:
            self.on_graded(self.last)
        return self.last.rewards()
