"""What a trainer knows of passes through its model: whether they may be split, and sums over processes."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import Trainer

from rft_cli.training.rollouts.shared_prompts import splitting_is_exact


class Passes(Trainer):
    """A mixin for TRL's trainers."""

    model: Any  # transformers says that it may be None; here it never is

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.accelerator.mixed_precision != "no":
            _leave_casts_to_autocast(self.model)

    @cached_property
    def _sharded(self) -> bool:
        """Whether processes shard parameters: a layer's weights are gathered at each call, so all must call alike."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    @cached_property
    def _splits(self) -> bool:
        """Whether a pass may be split in two over the model's cache: tried, because caches differ by architecture."""
        if self._sharded:
            return False
        with self.accelerator.autocast():
            works = splitting_is_exact(self.model, self.accelerator.device)
        return bool(
            self._mean_over_processes(torch.tensor(float(works), device=self.accelerator.device)) == 1
        )

    @property
    def shrinks(self) -> bool:
        """Whether completions that have ended may leave the batch."""
        return self._splits

    def _sum_over_processes(self, x: Tensor) -> Tensor:
        return self.accelerator.reduce(x, reduction="sum")

    def _mean_over_processes(self, x: Tensor) -> Tensor:
        return self.accelerator.reduce(x, reduction="mean")


def _leave_casts_to_autocast(model: nn.Module) -> None:
    """PEFT casts what an adapter reads to its float32, and autocast back to 16 bits: two copies for nothing."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False
