"""The critic: predicts, before each token, the return that will follow.

Designs (`ppo.critic`; `docs/algorithm.md` has what was measured):

- `shared`: a linear head on the policy's last hidden state, trained in the policy's own backward pass.
- `mlp`: a small network on the reference's last hidden states, which the KL pass computes anyway.
- `top`: the top quarter of the layers, on the hidden states that the reference pass had below them: with LoRA as an
  adapter of its own on the shared weights, else as a copy of those layers (`critic_top.py`).
- `adapter`: a LoRA adapter of its own on all layers.

Every design predicts normalised returns; `ReturnScale` maps them to raw reward units, so that a scorer from 0 to 100
trains like one from 0 to 1. Heads are fp32 and start at zero: the first value is the mean return.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rft_cli.training.hooks.divergence import Skips
from rft_cli.training.ppo.losses import masked_sum, value_terms
from rft_cli.training.rollouts.moments import Moments


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
    def update(self, moments: Moments, head: nn.Linear) -> None:
        """Take in one rollout batch's global moments; one without graded or finite returns changes nothing."""
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
        if not bool(first):
            head.weight.mul_(old_std / self.std)
            head.bias.copy_((head.bias * old_std + old_mean - self.mean) / self.std)


@dataclass(frozen=True, slots=True)
class CriticBatch:
    """What a critic with a forward pass of its own sees of `B` rollouts.

    `features` come from the reference pass: the hidden states `(B, P+T, H)` that enter the layer the critic asked for,
    or the last ones before each completion token `(B, T, H)` where it asked for none.
    """

    input_ids: Tensor
    attention_mask: Tensor
    completion_length: int
    features: Tensor | None

    def rows(self, index: Tensor) -> CriticBatch:
        features = None if self.features is None else self.features[index]
        return CriticBatch(
            self.input_ids[index], self.attention_mask[index], self.completion_length, features
        )


def before_each_token(hidden: Tensor, completion_length: int) -> Tensor:
    """Hidden states `(B, P+T, H)` -> those from which each completion token is predicted, `(B, T, H)`."""
    return hidden[:, -completion_length - 1 : -1]


class Critic(nn.Module):
    """Head and return scale; subclasses say where the hidden states come from.

    `joint`: trained in the policy's backward pass on its hidden states; otherwise by `fit` on cached features.
    `depth`: the layer below which features are taken from the reference pass; None takes the last hidden states.
    """

    joint = False
    learns = True
    depth: int | None = None

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.head = nn.Linear(hidden_size, 1, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.scale = ReturnScale()

    def read(self, states: Tensor) -> Tensor:
        """Normalised values `(B, T)` from the hidden states before each completion token, `(B, T, H)`."""
        return self.head(states.float()).squeeze(-1)

    def forward(self, batch: CriticBatch) -> Tensor:
        """Normalised values `(B, T)`."""
        assert batch.features is not None
        return self.read(batch.features)

    def active(self) -> AbstractContextManager[None]:
        """The context that a forward pass and its backward pass run in: critics on shared weights switch adapters."""
        return nullcontext()

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters its optimizer moves."""
        return [p for p in self.parameters() if p.requires_grad]


class NoCritic(Critic):
    """A constant: the group's other completions alone are the baseline."""

    learns = False

    def forward(self, batch: CriticBatch) -> Tensor:
        length = batch.completion_length
        return torch.zeros(batch.input_ids.size(0), length, device=batch.input_ids.device)


class SharedCritic(Critic):
    """A head on the policy's trunk."""

    joint = True


class MlpCritic(Critic):
    """One hidden layer on frozen reference states."""

    def __init__(self, hidden_size: int, width: int = 256) -> None:
        super().__init__(width)
        self.body = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, width), nn.GELU())
        self.body.float()

    def forward(self, batch: CriticBatch) -> Tensor:
        features = batch.features
        assert features is not None
        # It is small, and float16 would lose its gradients.
        with torch.autocast(features.device.type, enabled=False):
            return self.read(self.body(features.float()))


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a critic with its own optimizer is trained on one rollout batch."""

    passes: int
    micro_batch_size: int
    minibatches: int
    value_clip: float | None
    max_grad_norm: float


class CriticOptimizer:
    """AdamW over the critic alone, with gradients averaged over processes by hand.

    The critic stays outside of DDP: its hooks expect every parameter in every backward pass. Parameters that FSDP2
    shards (an adapter on the policy's layers) come as DTensors whose gradients it has averaged already. Made once the
    model is wrapped, because wrapping replaces parameters.
    """

    def __init__(
        self,
        critic: Critic,
        learning_rate: float,
        max_grad_norm: float,
        all_reduce: Callable[[Tensor], Tensor],
    ) -> None:
        self.parameters = critic.trained_parameters()
        self.bias = critic.head.bias
        self.skips = Skips()
        self.inner = torch.optim.AdamW(
            self.parameters,
            lr=learning_rate,
            weight_decay=0.0,
            foreach=False,  # the fused loops do not take plain tensors and DTensors together
        )
        self.max_grad_norm = max_grad_norm
        self._all_reduce = all_reduce

    def step(self, loss: Tensor | None = None) -> None:
        """Average gradients over processes, clip, step, forget them.

        A gradient or `loss` (of this process) that is not finite in any process skips the step in all.
        """
        for p in self.parameters:
            if not _sharded(p):
                gradient = torch.zeros_like(p) if p.grad is None else p.grad
                if p is self.bias and loss is not None:
                    gradient = gradient + 0.0 * loss  # 0, or NaN: the average takes it to the other processes
                p.grad = self._all_reduce(gradient)
        norm = self._norm()
        if not self.skips.record([] if bool(torch.isfinite(norm)) else ["loss or gradient"]):
            self._scale((self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
            self.inner.step()
        self.forget()

    def load(self, state: dict[str, Any]) -> None:
        """Go on with these moments, at this optimizer's own learning rate: that is a setting."""
        rates = [group["lr"] for group in self.inner.param_groups]
        self.inner.load_state_dict(state)
        for group, rate in zip(self.inner.param_groups, rates, strict=True):
            group["lr"] = rate

    def forget(self) -> None:
        """Drop the gradients."""
        self.inner.zero_grad(set_to_none=True)

    def _norm(self) -> Tensor:
        norms = [p.grad.norm() for p in self.parameters if p.grad is not None]
        return torch.stack([n.full_tensor() if isinstance(n, DTensor) else n for n in norms]).norm()

    def _scale(self, by: Tensor) -> None:
        for p in self.parameters:
            if p.grad is not None:
                p.grad.mul_(by)


def _sharded(p: Tensor) -> bool:
    return isinstance(p, DTensor)


def fit(
    critic: Critic,
    optimizer: CriticOptimizer,
    batch: CriticBatch,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    tokens: Tensor,
    settings: FitSettings,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Tensor:
    """Train on one rollout batch; returns the mean value loss of the last pass (normalised units, this process).

    Args:
        old_values, returns: raw reward units, `(N, T)`.
        tokens: counting tokens of the whole rollout batch divided by the number of processes: gradients are averaged
            over processes, so that the loss is the mean over all tokens of all processes.
    """
    old = critic.scale.to_normalised(old_values)
    target = critic.scale.to_normalised(returns)
    n = mask.size(0)
    last = torch.zeros((), device=mask.device)
    for _ in range(settings.passes):
        last = torch.zeros((), device=mask.device)
        for rows in torch.randperm(n, device=mask.device).chunk(settings.minibatches):
            part = torch.zeros((), device=mask.device)
            for index in rows.split(settings.micro_batch_size):
                with critic.active():
                    with autocast():
                        values = critic(batch.rows(index))
                    terms = value_terms(values, old[index], target[index], settings.value_clip)
                    loss = masked_sum(terms, mask[index]) / tokens.clamp(min=1.0)
                    (loss * settings.minibatches).backward()
                part = part + loss.detach()
            last = last + part
            optimizer.step(part)
    return last
