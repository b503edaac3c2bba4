"""Hidden states taken out of a forward pass on its way, without a second one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from rft_cli.training.rollouts.backbone import backbone_of, layers_of


class Tap:
    """Collects, while open, what enters layer `depth` in each forward pass of `model`, `(B, P+T, H)` a pass."""

    def __init__(self, model: nn.Module, depth: int) -> None:
        self._layer = layers_of(backbone_of(model))[depth]
        self.taken: list[Tensor] = []

    @contextmanager
    def open(self) -> Iterator[list[Tensor]]:
        """Yields the list that fills up, one entry a pass."""
        self.taken = []

        def before(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            self.taken.append(args[0] if args else kwargs["hidden_states"])

        handle = self._layer.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield self.taken
        finally:
            handle.remove()
