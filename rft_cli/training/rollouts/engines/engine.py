"""The interface of an engine: what trainer, pilot and validations ask of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rft_cli.training.rollouts.sampling import SamplingSettings


@dataclass(frozen=True, slots=True)
class Sampled:
    """One completion for each prompt: token ids with the stop token, and each token's log-probability as sampled.

    `version`: the name of the weights that sampled all of them.
    """

    ids: list[list[int]]
    logps: list[list[float]]
    version: str


class SamplingEngine(Protocol):
    """Samples from the weights that it was given last; all processes of a job call each method together."""

    at_step: Callable[[], int]
    """The optimizer steps so far, for the names of weights."""

    def load(self, model: Any) -> str:
        """Serve these weights, unless they are served already; their name."""
        ...

    def generate(self, prompts: Sequence[Sequence[int]], settings: SamplingSettings) -> Sampled:
        """Sample from them; each process its own prompts."""
        ...
