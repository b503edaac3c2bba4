"""The spread of a job's rewards: the unit of its KL penalty and of its advantages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rft_cli.training.rollouts.statistics import Moments


class RewardSpread(nn.Module):
    """Standard deviation of all rewards of the job so far, so that a scorer of 0 to 100 trains like one of 0 to 1.

    Over all batches and not the newest one: a batch that is nearly solved has a small spread of its own, and dividing
    by that would make the last few failures as loud as the first ones were.
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
        """Take in one rollout batch's rewards (Chan et al. 1983); one without grades changes nothing."""
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
