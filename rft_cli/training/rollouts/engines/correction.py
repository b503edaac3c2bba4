"""Sampler and trainer compute a token's log-probability in two programs: how far apart they are, and the correction.

`old`: the trainer's log-probabilities of the sampled tokens, `sampled`: the sampler's; all `(B, T)`, masks 1 = counts.
Where the sampler gave no number the two are taken as equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def padded_logps(rows: Sequence[Sequence[float]], length: int, like: Tensor) -> Tensor:
    """The sampler's log-probabilities as `(B, length)`, zeros behind each completion."""
    found = torch.zeros(len(rows), length, dtype=torch.float32)
    for number, row in enumerate(rows):
        found[number, : len(row)] = torch.tensor(list(row)[:length], dtype=torch.float32)
    return found.to(like)


def differences(old: Tensor, sampled: Tensor, mask: Tensor) -> Tensor:
    """log pi_trainer - log pi_sampler where tokens count, else 0. `(B, T)`."""
    apart = torch.nan_to_num(old - sampled, nan=0.0)
    return torch.where(mask.bool(), apart, torch.zeros_like(apart))


def token_weights(apart: Tensor, cap: float) -> Tensor:
    """Truncated importance weights min(pi_trainer / pi_sampler, cap) of tokens, `(B, T)` (Yao et al. 2025, "TIS")."""
    return torch.exp(apart.clamp(max=20.0)).clamp(max=cap)


def completion_weights(apart: Tensor, cap: float) -> Tensor:
    """The same of whole completions, `(B,)`, for losses whose ratio is a completion's."""
    return torch.exp(apart.sum(dim=1).clamp(max=20.0)).clamp(max=cap)
