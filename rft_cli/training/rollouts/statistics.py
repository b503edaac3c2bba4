"""Means and standard deviations over what counts, in all processes; the spread of a job's rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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


class RewardSpread(nn.Module):
    """Standard deviation of all rewards of the job so far: the unit of its KL penalty and of its advantages.

    So a scorer of 0 to 100 trains like one of 0 to 1. It covers all batches and not the newest one: a batch that is
    nearly solved has a small spread of its own, and dividing by that would amplify its last few failures.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "mean", "squares"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, batch: Moments) -> None:
        """Add one rollout batch's rewards (Chan et al. 1983); one without grades changes nothing."""
        if batch.count <= 0 or not bool(torch.isfinite(batch.mean) & torch.isfinite(batch.std)):
            return
        n, mean, std = batch.count.to(self.count), batch.mean.to(self.mean), batch.std.to(self.mean)
        total = self.count + n
        apart = mean - self.mean
        self.squares += n * std.square() + apart.square() * self.count * n / total
        self.mean += apart * n / total
        self.count.copy_(total)

    @property
    def value(self) -> float:
        """In raw reward units; 1 where no two rewards have differed yet."""
        if self.count <= 0:
            return 1.0
        std = float((self.squares / self.count).sqrt())
        return std if std > 1e-6 * max(1.0, abs(float(self.mean))) else 1.0
