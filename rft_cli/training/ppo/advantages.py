"""From rewards to advantages: pure functions on `(B, T)` tensors.

Completions are padded on the right: `mask` is 1 on a completion's tokens (EOS included) and 0 behind them. Rows whose
grade was skipped or failed have an all-zero mask; every function gives zeros there and never NaN, whatever stands
behind the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor over all processes; the identity where there is one."""


def identity(x: Tensor) -> Tensor:
    """The `Reduce` of a single process."""
    return x


def kl_k1(policy_logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Per-token k1 = log pi - log pi_ref. Unbiased under samples of the policy; can be negative. `(B, T)`."""
    return policy_logps - reference_logps


def kl_k3(policy_logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Per-token k3 = exp(-k1) - 1 + k1: never negative, low variance (Schulman 2020). `(B, T)`.

    The difference is clamped to [-20, 20] before exp, so that one absurd token cannot make the figure infinite.
    """
    k1 = (policy_logps - reference_logps).clamp(-20.0, 20.0)
    return torch.exp(-k1) - 1.0 + k1


def counting(x: Tensor, mask: Tensor) -> Tensor:
    """`x` where the mask is 1, zero elsewhere; unlike a product, it stops a NaN behind the mask. `(B, T)`."""
    return torch.where(mask.bool(), x, torch.zeros_like(x))


def finite_rows(x: Tensor, mask: Tensor) -> Tensor:
    """Whether all counting entries of a row are finite, `(B,)`; rows without any are."""
    return torch.isfinite(counting(x, mask)).all(dim=1)


def last_token(mask: Tensor) -> Tensor:
    """One-hot `(B, T)` mark of each row's last counting token; all zeros for an empty row."""
    following = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
    return mask * (1 - following)


def token_rewards(rewards: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """r_t = -kl_coef * k1_t + [t = last] * reward, in raw reward units.

    Args:
        rewards: `(B,)`; entries of rows without a grade may be NaN, they are not read.
        kl: per-token k1 against the reference, `(B, T)`.
        mask: `(B, T)`.
        kl_coef: weight of the KL penalty, in reward units per nat.
    """
    end = last_token(mask).to(kl.dtype)
    graded = mask.any(dim=1)
    terminal = torch.where(graded, rewards.to(kl.dtype), torch.zeros_like(rewards, dtype=kl.dtype))
    penalty = counting(kl, mask) * kl_coef
    return end * terminal.unsqueeze(1) - penalty


def gae(token_reward: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) on finite completions. `(B, T)`.

        delta_t = r_t + gamma * V_{t+1} - V_t ,   A_t = delta_t + gamma * lam * A_{t+1}

    V and A behind the last token are 0: a completion ends at EOS or at the length limit, and the grade already
    judges what stands there, so nothing is bootstrapped from a truncated one.
    """
    m = mask.to(values.dtype)
    values, token_reward = counting(values, mask), counting(token_reward, mask)
    advantages = torch.zeros_like(values)
    carry = torch.zeros_like(values[:, 0])
    next_value = torch.zeros_like(values[:, 0])
    for t in range(values.size(1) - 1, -1, -1):
        delta = token_reward[:, t] + gamma * next_value - values[:, t]
        carry = (delta + gamma * lam * carry) * m[:, t]
        advantages[:, t] = carry
        next_value = values[:, t]
    return advantages


@dataclass(frozen=True, slots=True)
class AdvantagesAndReturns:
    """What the losses need, `(B, T)` each: advantages of the policy (not whitened yet), returns for the critic."""

    advantages: Tensor
    returns: Tensor


def advantages_and_returns(
    token_reward: Tensor,
    values: Tensor,
    mask: Tensor,
    gamma: float,
    lambda_policy: float,
    lambda_value: float,
) -> AdvantagesAndReturns:
    """GAE with separate lambdas: the critic's target is A(lambda_value) + V (VC-PPO, arXiv 2503.01491)."""
    advantages = gae(token_reward, values, mask, gamma, lambda_policy)
    for_value = (
        advantages if lambda_value == lambda_policy else gae(token_reward, values, mask, gamma, lambda_value)
    )
    return AdvantagesAndReturns(advantages, for_value + counting(values, mask))


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and standard deviation (population) over all counting entries of all processes; scalars."""

    mean: Tensor
    std: Tensor
    count: Tensor


def masked_moments(x: Tensor, mask: Tensor, reduce: Reduce = identity) -> Moments:
    """Two reductions rather than E[x^2] - E[x]^2, which loses all digits when the mean is large.

    Where nothing counts, mean and spread are NaN: there are none.
    """
    wide = counting(x, mask).to(torch.float64)
    total = reduce(torch.stack([wide.sum(), mask.to(torch.float64).sum()]))
    count = total[1]
    mean = total[0] / count
    variance = reduce(counting((wide - mean).square(), mask).sum()) / count
    return Moments(mean.to(x.dtype), variance.sqrt().to(x.dtype), count)


def whiten(x: Tensor, mask: Tensor, reduce: Reduce = identity, eps: float = 1e-8) -> Tensor:
    """(x - mean) / std over all counting entries of all processes; zeros where the mask is 0.

    A batch whose entries are all equal carries no signal and becomes zeros, not noise divided by eps.
    """
    moments = masked_moments(x, mask, reduce)
    scale = torch.where(moments.std > 1e-6, 1.0 / (moments.std + eps), torch.zeros_like(moments.std))
    return counting((x - moments.mean) * scale, mask)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor, reduce: Reduce = identity) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over all counting entries; 0 where the returns do not vary.

    NaN where a value or return is, or where nothing counts.
    """
    residual = masked_moments(returns - values, mask, reduce).std.square()
    total = masked_moments(returns, mask, reduce).std.square()
    return torch.where(total <= 1e-10, torch.zeros_like(total), 1.0 - residual / total.clamp(min=1e-10))
