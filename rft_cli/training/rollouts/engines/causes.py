"""Why an engine's log-probabilities differ from the trainer's: the likely cause, by a few rows scored otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ROWS = 4
CLEARLY = 0.5
"""Another explanation fits where it makes the difference this much smaller."""
ROUNDING = 0.3
"""Nats a token that another type of arithmetic may explain."""


EXACT, ROUNDED = 0.02, 0.15
"""What `tripwires.logprob_difference: auto` is in float32, and in 16 bits (SmolLM2 in bfloat16: 0.05)."""


def bound_of(setting: float | str | None, dtype: str) -> float | None:
    """`tripwires.logprob_difference` for a job that computes in `dtype`; None: there is no bound."""
    if not isinstance(setting, str):
        return setting
    return EXACT if dtype == "float32" else ROUNDED


@dataclass(frozen=True, slots=True)
class Distances:
    """Mean distance of the engine's log-probabilities, in nats a token, to those of the trainer's weights.

    `raw`: at temperature 1; `reference`: of the base model, None where the base is what was asked for.
    """

    own: float
    raw: float
    reference: float | None = None


def likely_cause(found: Distances, dtype: str) -> str:
    """What explains the distance best, and what to do. `dtype`: what the trainer computes in."""
    if found.raw < CLEARLY * found.own:
        return (
            "the engine gives log-probabilities before temperature: start it with --logprobs-mode "
            "processed_logprobs"
        )
    if found.reference is not None and found.reference < CLEARLY * found.own:
        return "the engine samples from the base model: it has not taken the weights of this step"
    if found.own < ROUNDING:
        return (
            f"the engine rounds otherwise than the trainer, which computes in {dtype}: serve it with "
            f"--dtype {dtype}; or its weights are of another step"
        )
    return "the engine serves another model than this job trains, or weights of another step"


@torch.no_grad()
def plain_logps(model: Any, prompt: Sequence[int], completion: Sequence[int], temperature: float) -> Tensor:
    """Log-probabilities `(T,)` of a completion by the model's own forward pass, without rft's shortcuts."""
    whole = torch.tensor([[*prompt, *completion]], device=model.device)
    logits = model(input_ids=whole).logits[0, len(prompt) - 1 : -1].float().cpu()
    logps = (logits / temperature).log_softmax(dim=-1)
    return logps.gather(1, torch.tensor(list(completion)).unsqueeze(1)).squeeze(1)


def distance(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    sampled: Sequence[Sequence[float]],
    temperature: float,
) -> float:
    """Mean distance of the first rows' sampled log-probabilities to the model's own, in nats a token."""
    parts = [
        torch.nan_to_num(plain_logps(model, p, c, temperature) - torch.tensor(list(s))).abs()
        for p, c, s in list(zip(prompts, completions, sampled, strict=True))[:ROWS]
    ]
    return float(torch.cat(parts).mean())
