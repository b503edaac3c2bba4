"""What one judge is to do: the model, the verdict wanted of it, and how it is sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rft_cli.config.suggest import did_you_mean
from rft_cli.errors import UsageError
from rft_cli.types import GradeError, GradeRequest, Message

Render = Callable[[GradeRequest], Sequence[Message] | GradeError]
"""Fills a spec's templates with one completion and its row; a GradeError where they name what is not there."""

_SAMPLING = {
    "seed": "seed",
    "temperature": "temperature",
    "top_p": "top_p",
    "max_completions_tokens": "max_completion_tokens",  # grader specs spell it with an s, chat completions without
    "max_completion_tokens": "max_completion_tokens",
    "reasoning_effort": "reasoning_effort",
}


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """One judge. `score`: a number, clamped to [low, high], is the reward. `label`: 1 for a passing label, else 0.

    `sampling` takes seed, temperature, top_p, reasoning_effort, and the length limit as max_completions_tokens (as
    grader specs spell it) or max_completion_tokens; None stands for the endpoint's default.
    """

    name: str
    kind: Literal["score", "label"]
    model: str
    low: float = 0.0
    high: float = 1.0
    labels: Sequence[str] = ()
    passing_labels: Sequence[str] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """The type of the grader spec."""
        return f"{self.kind}_model"


def sampling_parameters(task: JudgeTask) -> dict[str, Any]:
    """The sampling settings as chat completions name them; UsageError for one that judges do not take."""
    parameters = {}
    for name, value in task.sampling.items():
        if name not in _SAMPLING:
            fix = did_you_mean(name, _SAMPLING) or f"known: {', '.join(_SAMPLING)}"
            raise UsageError(f"{task.type} '{task.name}': unknown sampling parameter '{name}'", fix)
        if value is not None:
            parameters[_SAMPLING[name]] = value
    return parameters
