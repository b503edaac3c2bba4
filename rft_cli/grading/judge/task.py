"""What one judge is to do: the model, the verdict wanted of it, and how it is sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rft_cli.types import GradeError, GradeRequest, Message

Render = Callable[[GradeRequest], Sequence[Message] | GradeError]
"""Fills a spec's templates with one completion and its row; a GradeError where the row lacks a key."""


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """One judge. `score`: a number, clamped to [low, high], is the reward. `label`: 1 for a passing label, else 0.

    `sampling` has the parameters of a spec's `sampling_params` that are set.
    """

    name: str
    kind: Literal["score", "label"]
    model: str
    low: float = 0.0
    high: float = 1.0
    labels: Sequence[str] = ()
    passing_labels: Sequence[str] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """`sampling` with the names of chat completions, which spell the length limit without the first s."""
        names = {"max_completions_tokens": "max_completion_tokens"}
        return {names.get(name, name): value for name, value in self.sampling.items()}
