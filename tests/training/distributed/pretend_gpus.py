"""Makes accelerate shard on CPUs: with `use_cpu` it would quietly train with DDP, and gloo can do what is needed.

Usage: accelerate launch … -m tests.training.distributed.pretend_gpus ARGUMENTS OF RFT

Nothing of rft is replaced; of accelerate, the choice of backend and device.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType


def pretend_gpus_on_gloo() -> None:
    """Take the processes for GPUs that talk over gloo and compute on the CPU."""
    AcceleratorState.__init__ = _never_on_cpu(AcceleratorState.__init__)  # type: ignore[method-assign]
    PartialState.__init__ = _never_on_cpu(PartialState.__init__)  # type: ignore[method-assign]
    PartialState._prepare_backend = _backend  # type: ignore[method-assign]
    PartialState.set_device = _device  # type: ignore[method-assign]


def _never_on_cpu(original: Any) -> Any:
    def patched(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{**kwargs, "cpu": False})

    return patched


def _backend(*_: Any, **__: Any) -> tuple[str, DistributedType]:
    return "gloo", DistributedType.MULTI_GPU


def _device(self: PartialState) -> None:
    self.device = torch.device("cpu")


if __name__ == "__main__":
    pretend_gpus_on_gloo()
    from rft_cli.cli import main

    sys.exit(main())
