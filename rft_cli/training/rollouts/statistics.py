"""Means and spreads over what counts, in all processes: pure functions on masked tensors."""

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


def counting(x: Tensor, mask: Tensor) -> Tensor:
    """`x` where the mask is 1, zero elsewhere; unlike a product, it stops a NaN behind the mask. `(B, T)`."""
    return torch.where(mask.bool(), x, torch.zeros_like(x))


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
