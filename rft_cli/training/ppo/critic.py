"""The critic: predicts, before each token, the return that will follow (`ppo.critic`; measured in `docs/algorithm.md`).

- `none`: the mean return of the job so far, a constant; the prompt's other completions are the baseline.
- `mlp`: a small network on the reference's last hidden states, which the KL pass computes anyway.

Critics predict normalised returns; `ReturnScale` maps them to raw reward units, so that a scorer from 0 to 100 trains
like one from 0 to 1. The head is fp32 and starts at zero: the first value is the mean return.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rft_cli.training.hooks.divergence import Skips
from rft_cli.training.ppo.losses import masked_sum, value_terms
from rft_cli.training.rollouts.statistics import Moments


class ReturnScale(nn.Module):
    """Running mean and spread of returns, in raw reward units (PopArt, van Hasselt et al. 2016, on a linear head).

    When the statistics move, the head is rescaled so that its predictions in raw units stay exactly the same.
    """

    mean: Tensor
    std: Tensor
    seen: Tensor

    def __init__(self, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros((), dtype=torch.float32))
        self.register_buffer("std", torch.ones((), dtype=torch.float32))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def to_raw(self, normalised: Tensor) -> Tensor:
        return normalised * self.std + self.mean

    def to_normalised(self, raw: Tensor) -> Tensor:
        return (raw - self.mean) / self.std

    @torch.no_grad()
    def update(self, moments: Moments, head: nn.Linear | None = None) -> None:
        """Add one rollout batch's global moments; one without graded or finite returns changes nothing."""
        if moments.count <= 0 or not bool(torch.isfinite(moments.mean) & torch.isfinite(moments.std)):
            return
        keep = torch.where(self.seen, self.momentum, 0.0).to(self.mean)
        old_mean, old_std = self.mean.clone(), self.std.clone()
        first = ~self.seen
        mean = keep * self.mean + (1 - keep) * moments.mean.float()
        spread = keep * self.std + (1 - keep) * moments.std.float()
        floor = torch.clamp(mean.abs() * 1e-3, min=1e-4)
        self.std.copy_(torch.maximum(spread, floor))
        self.mean.copy_(mean)
        self.seen.fill_(True)
        if head is not None and not bool(first):
            head.weight.mul_(old_std / self.std)
            head.bias.copy_((head.bias * old_std + old_mean - self.mean) / self.std)


class Critic(nn.Module):
    """`none`: the mean return, a constant."""

    learns = False

    def __init__(self) -> None:
        super().__init__()
        self.scale = ReturnScale()

    def update_scale(self, moments: Moments) -> None:
        """Add the moments of one rollout batch's returns."""
        self.scale.update(moments)

    def forward(self, states: Tensor) -> Tensor:
        """Normalised values `(B, T)` from the reference's hidden states before each completion token `(B, T, H)`."""
        return states.new_zeros(states.shape[:2], dtype=torch.float32)


class MlpCritic(Critic):
    """One hidden layer on the reference's states, which stay frozen."""

    learns = True

    def __init__(self, hidden_size: int, width: int = 256) -> None:
        super().__init__()
        self.head = nn.Linear(width, 1, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.body = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, width), nn.GELU())
        self.body.float()

    def update_scale(self, moments: Moments) -> None:
        """Add the moments of one rollout batch's returns; values in raw units stay the same."""
        self.scale.update(moments, self.head)

    def forward(self, states: Tensor) -> Tensor:
        """Normalised values `(B, T)`."""
        # The network is small, and float16 would lose its gradients.
        with torch.autocast(states.device.type, enabled=False):
            return self.head(self.body(states.float())).squeeze(-1)


@dataclass(frozen=True, slots=True)
class CriticSettings:
    """How a critic is trained on one rollout batch: `passes` over it, each of `minibatches` steps."""

    learning_rate: float
    passes: int
    minibatches: int
    micro_batch_size: int
    value_clip: float | None
    max_grad_norm: float


class CriticOptimizer:
    """Trains the critic alone, with AdamW and gradients averaged over processes.

    The critic stays outside of DDP, whose hooks expect every parameter in every backward pass.
    `all_reduce` averages a tensor over all processes.
    """

    def __init__(
        self, critic: MlpCritic, settings: CriticSettings, all_reduce: Callable[[Tensor], Tensor]
    ) -> None:
        self.critic, self.settings = critic, settings
        self.skips = Skips()
        self.inner = torch.optim.AdamW(critic.parameters(), lr=settings.learning_rate, weight_decay=0.0)
        self._all_reduce = all_reduce

    def fit(
        self, states: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, tokens: Tensor
    ) -> Tensor:
        """Train on one rollout batch; returns the mean value loss of the last pass (normalised units, this process).

        Args:
            states: `(B, T, H)`, as `Critic.forward` takes them.
            old_values, returns: raw reward units, `(B, T)`.
            tokens: counting tokens of the whole rollout batch divided by the number of processes: gradients are
                averaged over processes, so that the loss is the mean over all tokens of all processes.
        """
        settings = self.settings
        old = self.critic.scale.to_normalised(old_values)
        target = self.critic.scale.to_normalised(returns)
        last = torch.zeros((), device=mask.device)
        for _ in range(settings.passes):
            last = torch.zeros((), device=mask.device)
            for rows in torch.randperm(mask.size(0), device=mask.device).chunk(settings.minibatches):
                part = torch.zeros((), device=mask.device)
                for index in rows.split(settings.micro_batch_size):
                    values = self.critic(states[index])
                    terms = value_terms(values, old[index], target[index], settings.value_clip)
                    loss = masked_sum(terms, mask[index]) / tokens.clamp(min=1.0)
                    (loss * settings.minibatches).backward()
                    part = part + loss.detach()
                last = last + part
                self.step(part)
        return last

    def step(self, loss: Tensor) -> None:
        """Average gradients over processes, clip, step, drop the gradients.

        A gradient or `loss` (of this process) that is not finite in any process skips the step in all.
        """
        parameters = [*self.critic.parameters()]
        for p in parameters:
            gradient = torch.zeros_like(p) if p.grad is None else p.grad
            if p is self.critic.head.bias:
                # Adds 0, or NaN: the average takes it to the other processes.
                gradient = gradient + 0.0 * loss
            p.grad = self._all_reduce(gradient)
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm, foreach=False)
        if not self.skips.record([] if bool(torch.isfinite(norm)) else ["loss or gradient"]):
            self.inner.step()
        self.inner.zero_grad(set_to_none=True)

    def load(self, state: dict[str, Any]) -> None:
        """Continue with these moments, at this optimizer's own learning rate: that is a setting."""
        rates = [group["lr"] for group in self.inner.param_groups]
        self.inner.load_state_dict(state)
        for group, rate in zip(self.inner.param_groups, rates, strict=True):
            group["lr"] = rate
