"""Which LoRA adapter a forward pass uses, switched without touching `requires_grad`.

PEFT's own `set_adapter` and `disable_adapter` freeze the adapters they switch away from, which would silently stop the
critic (or the policy) from learning; here only the two fields that the forward pass reads are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn


@contextmanager
def active_adapter(model: nn.Module, name: str | None) -> Iterator[None]:
    """Run with adapter `name`, or with the plain base weights when `name` is None.

    With gradient checkpointing the backward pass recomputes under whichever adapter is active then: keep the backward
    inside this context too.
    """
    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    before = [(layer._active_adapter, layer._disable_adapters) for layer in layers]
    for layer in layers:
        if name is None:
            layer._disable_adapters = True
        else:
            layer._active_adapter, layer._disable_adapters = [name], False
    try:
        yield
    finally:
        for layer, (active, disabled) in zip(layers, before, strict=True):
            layer._active_adapter, layer._disable_adapters = active, disabled
