"""rft under a launcher that shards, on CPUs: accelerate would quietly train with DDP there, and gloo can do all of it.

Usage: accelerate launch … -m tests.training.distributed.pretend_gpus ARGUMENTS OF RFT

Nothing of rft is replaced; of accelerate, the choice of backend and device. Where SHARDING_SEEN names a folder, each
process writes into it what it trains: RANK.json.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from transformers import Trainer

SEEN = "SHARDING_SEEN"


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


def _watch(folder: Path) -> None:
    """Write what the trainer has before and after it prepares the model."""
    original = Trainer._prepare_for_training

    def patched(self: Any, *args: Any, **kwargs: Any) -> Any:
        held = sum(p.numel() for p in self.model.parameters())
        found = original(self, *args, **kwargs)
        (folder / f"{self.args.process_index}.json").write_text(json.dumps(seen(self) | {"loaded": held}))
        return found

    Trainer._prepare_for_training = patched


def seen(trainer: Any) -> dict[str, Any]:
    """The classes of what wraps the model, and with DeepSpeed its stage; the class of the reference."""
    wrapped, reference = trainer.model_wrapped, getattr(trainer, "reference", None)
    return {
        "classes": [c.__name__ for c in type(wrapped).__mro__],
        "stage": wrapped.zero_optimization_stage() if hasattr(wrapped, "zero_optimization_stage") else 0,
        "reference": [] if reference is None else [c.__name__ for c in type(reference).__mro__],
        "reference_held": 0 if reference is None else sum(p.numel() for p in reference.parameters()),
    }


if __name__ == "__main__":
    pretend_gpus_on_gloo()
    if SEEN in os.environ:
        _watch(Path(os.environ[SEEN]))
    from rft_cli.cli import main

    main()
