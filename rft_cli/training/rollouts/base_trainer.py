"""What rft's trainers share: the order of rows, sums over processes, the state that a checkpoint keeps."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import Trainer
from trl.trainer.utils import RepeatSampler

from rft_cli.events import OnEvent
from rft_cli.training.quantization import keep_adapters_in_float32
from rft_cli.training.rollouts.row_order import epoch_seed
from rft_cli.training.rollouts.shared_prompts import splitting_is_exact


class EpochSampler(RepeatSampler):
    """RepeatSampler whose order depends on seed and epoch alone, so that a resumed epoch has the same order."""

    trainer: Any = None
    """Knows how many passes over the rows were made so far."""

    def __iter__(self) -> Any:
        if self.shuffle:
            self.generator.manual_seed(epoch_seed(self.seed or 0, int(self.trainer.state.epoch or 0)))
        return super().__iter__()


class BaseTrainer(Trainer):
    """A mixin for TRL's trainers."""

    # transformers declares None too, which it never is here.
    model: Any
    on_note: OnEvent = staticmethod(lambda _: None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keep_adapters_in_float32(self.model)
        if self.accelerator.mixed_precision != "no":
            leave_casts_to_autocast(self.model)

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

    def process_state(self) -> dict[str, Any]:
        """What this process has between two optimizer steps beside their number, as tensors and plain values."""
        return {}

    def load_process_state(self, state: dict[str, Any]) -> None:
        """Restore what `process_state` returned."""

    def for_other_processes(self, state: dict[str, Any]) -> dict[str, Any]:
        """The part of process 0's state with which another number of processes continues."""
        return state

    def critic_state(self) -> dict[str, Any] | None:
        """State that is equal in all processes, as plain tensors; None without a critic."""
        return None

    def load_critic_state(self, state: dict[str, Any]) -> None:
        """Restore what `critic_state` returned."""

    def _sum_over_processes(self, x: Tensor) -> Tensor:
        return self.accelerator.reduce(x, reduction="sum")

    def _mean_over_processes(self, x: Tensor) -> Tensor:
        return self.accelerator.reduce(x, reduction="mean")


def leave_casts_to_autocast(model: nn.Module) -> None:
    """PEFT casts what an adapter reads to its float32, and autocast back to 16 bits: two copies for nothing."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False
