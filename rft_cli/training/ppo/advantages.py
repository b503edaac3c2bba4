"""From rewards to advantages: pure functions on `(B, T)` tensors.

Completions are padded on the right: `mask` is 1 on a completion's tokens (EOS included) and 0 behind them. Rows whose
grade was skipped or failed have an all-zero mask; every function gives zeros there and never NaN, whatever is
behind the mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rft_cli.training.rollouts.statistics import Reduce, counting, identity, masked_moments


def kl_k1(policy_logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Per-token k1 = log pi - log pi_ref. Unbiased under samples of the policy; can be negative. `(B, T)`."""
    return policy_logps - reference_logps


def kl_k3(policy_logps: Tensor, reference_logps: Tensor) -> Tensor:
    """Per-token k3 = exp(-k1) - 1 + k1: never negative, low variance (Schulman 2020). `(B, T)`.

    The difference is clamped to [-20, 20] before exp, so that one absurd token cannot make the figure infinite.
    """
    k1 = (policy_logps - reference_logps).clamp(-20.0, 20.0)
    return torch.exp(-k1) - 1.0 + k1


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
    judges it, so nothing is bootstrapped from a truncated one.
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


def others_mean(x: Tensor, groups: Tensor, counts: Tensor) -> Tensor:
    """For each row the mean of `x` over the other counting rows of its group; 0 where there is none. `(B,)`.

    The leave-one-out baseline of RLOO (Kool et al. 2019): a row's own value is not in it, so it adds no bias.

    Args:
        x: `(B,)`, read where `counts` is true; groups: `(B,)`, equal numbers for rows of one prompt.
    """
    same = (groups.unsqueeze(0) == groups.unsqueeze(1)) & counts.unsqueeze(0)
    same = same & ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    total = (same.to(x.dtype) * torch.where(counts, x, torch.zeros_like(x))).sum(dim=1)
    return total / same.sum(dim=1).clamp(min=1)


def group_centred(
    advantages: Tensor, token_reward: Tensor, values: Tensor, mask: Tensor, groups: Tensor, gamma: float
) -> Tensor:
    """Advantages less the mean error of the critic's first value on the prompt's other completions. `(B, T)`.

        A'_t = A_t - mean over the others of (return_0 - V_0)

    The critic alone must learn how hard each prompt is; a group's other completions show it without bias. With
    values that are equal everywhere and lambda 1 this is RLOO; the critic adds what it knows within a completion.
    """
    start = gae(token_reward, values, mask, gamma, 1.0)[:, 0]
    missed = others_mean(start, groups, mask.any(dim=1))
    return counting(advantages - missed.unsqueeze(1), mask)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor, reduce: Reduce = identity) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over all counting entries; 0 where the returns do not vary.

    NaN where a value or return is, or where nothing counts.
    """
    residual = masked_moments(returns - values, mask, reduce).std.square()
    total = masked_moments(returns, mask, reduce).std.square()
    return torch.where(total <= 1e-10, torch.zeros_like(total), 1.0 - residual / total.clamp(min=1e-10))
