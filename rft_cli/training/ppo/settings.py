"""The flat values that the PPO trainer works with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PPOSettings:
    """Flat values of the algorithm; units as in `PPOConfig`."""

    kl_coef: float
    kl_unit: str
    gamma: float
    lambda_policy: float
    lambda_value: float
    clip_low: float
    clip_high: float
    value_clip: float | None
    value_coef: float
    entropy_coef: float
    critic_learning_rate: float
    critic_passes: int
    critic_warmup: int
    minibatches: int
    max_grad_norm: float
