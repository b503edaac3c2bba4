"""Hidden states taken out of a forward pass on its way, without a second one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from rft_cli.training.critic_top import backbone_of, layers_of


class Tap:
    """Collects, while open, the hidden states of each forward pass of `model`, `(B, P+T, H)` a pass.

    `depth` None takes the last hidden states (after the final norm); a number takes what enters that layer.
    """

    def __init__(self, model: nn.Module, depth: int | None = None) -> None:
        backbone = backbone_of(model)
        self._where: nn.Module = backbone if depth is None else layers_of(backbone)[depth]
        self._depth = depth
        self.taken: list[Tensor] = []

    @contextmanager
    def open(self) -> Iterator[list[Tensor]]:
        """Yields the list that fills up, one entry a pass."""
        self.taken = []

        def after(_module: nn.Module, _args: Any, output: Any) -> None:
            self.taken.append(output.last_hidden_state)

        def before(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            self.taken.append(args[0] if args else kwargs["hidden_states"])

        if self._depth is None:
            handle = self._where.register_forward_hook(after)
        else:
            handle = self._where.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield self.taken
        finally:
            handle.remove()
