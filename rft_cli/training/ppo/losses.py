"""PPO's two losses: pure functions on `(B, T)` tensors that return per-token terms; the trainer sums and normalises.

Deviations from the paper (Schulman et al. 2017): the clip range may be wider above than below (DAPO, arXiv 2503.14476),
and the value loss is clipped as in OpenAI's code, not as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PolicyTerms:
    """Per-token terms, `(B, T)`: `loss` to be averaged over tokens, `ratio`, and `clipped` = 1 where it was clipped."""

    loss: Tensor
    ratio: Tensor
    clipped: Tensor


def policy_terms(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> PolicyTerms:
    """max(-A * ratio, -A * clip(ratio, 1 - clip_low, 1 + clip_high)), ratio = exp(log pi - log pi_old)."""
    ratio = torch.exp((logps - old_logps).clamp(-20.0, 20.0))
    plain = -advantages * ratio
    bounded = -advantages * ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return PolicyTerms(torch.maximum(plain, bounded), ratio.detach(), (bounded > plain).detach())


def value_terms(values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """Half the larger of the plain and the clipped squared error, `(B, T)`.

    The clipped prediction may move at most `clip` away from the old value, in the units the values are given in.
    """
    error = (values - returns).square()
    if clip is not None:
        bounded = old_values + (values - old_values).clamp(-clip, clip)
        error = torch.maximum(error, (bounded - returns).square())
    return 0.5 * error


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Sum over counting tokens; a NaN behind the mask is not added, and its entry gets no gradient.

    A gradient of 0 does not stay 0 behind a NaN, so what `x` is made of must be finite behind the mask too: targets,
    advantages and old log-probabilities are zeros there.
    """
    return torch.where(mask.bool(), x, torch.zeros_like(x)).sum()
