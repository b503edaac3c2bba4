"""Models that are spread over the processes: FSDP2 and DeepSpeed ZeRO, as accelerate offers them.

ZeRO-3 gives each process its part while the weights load. FSDP2 shards the loaded model when the trainer prepares it.
"""

from __future__ import annotations

import os
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import FSDPModule

from rft_cli.config.launcher import sharding_in
from rft_cli.errors import UsageError
from rft_cli.runs.model_source import ModelSource

_KEPT = "_rft_zero_plugin"


def partition_at_load(source: ModelSource, compute: str) -> Any:
    """Make the next `from_pretrained` partition what it loads, under ZeRO-3; the caller keeps what is returned.

    Weights that are merged or unpacked after loading are read whole: the trainer partitions them then.
    """
    sharding = sharding_in(os.environ)
    if sharding is None or sharding.stage != 3 or source.adapters or source.is_gguf:
        return None
    from accelerate.utils import DeepSpeedPlugin

    plugin = DeepSpeedPlugin()
    plugin.set_mixed_precision({"bfloat16": "bf16", "float16": "fp16"}.get(compute, "no"))
    plugin.set_deepspeed_weakref()
    return plugin


def keep(model: nn.Module, plugin: Any) -> None:
    """Tie the plugin's life to the model's: transformers holds it by a weak reference."""
    if plugin is not None:
        object.__setattr__(model, _KEPT, plugin)


def is_partitioned(model: nn.Module) -> bool:
    """Whether ZeRO-3 has partitioned its weights: what a process sees of them is empty."""
    return any(hasattr(p, "ds_id") for p in model.parameters())


def check_sharded(accelerator: Accelerator) -> None:
    """Raise UsageError where the launcher asked for sharding and accelerate trains without, as it does on CPUs."""
    wanted = sharding_in(os.environ)
    kinds = {"fsdp": DistributedType.FSDP, "deepspeed": DistributedType.DEEPSPEED}
    if wanted is not None and accelerator.distributed_type != kinds[wanted.library]:
        raise UsageError(
            f"the launcher asks for {wanted.name}, but accelerate would give every process the whole model "
            f"({accelerator.distributed_type.value}): it shards on GPUs alone",
            "launch where there are GPUs and with use_cpu: false, or train with --num-processes N",
        )


def gather_when_saving(accelerator: Accelerator) -> None:
    """Let ZeRO-3 gather whole weights for a checkpoint: without them nothing could be exported."""
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None and plugin.zero_stage == 3:
        plugin.deepspeed_config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True


def reshard(model: nn.Module) -> None:
    """Free the whole weights that FSDP2 keeps of the last layers after a forward pass: nothing loads into them."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def placed_reference(reference: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The frozen reference beside a sharded policy: sharded as that is, else whole on this process's device."""
    if accelerator.distributed_type == DistributedType.FSDP:
        if accelerator.is_fsdp2:
            from accelerate.utils.fsdp_utils import fsdp2_prepare_model

            return fsdp2_prepare_model(accelerator, reference).eval()
    elif is_partitioned(reference):
        from trl.models.utils import prepare_deepspeed

        prepare_deepspeed(reference, accelerator)
        return reference
    return reference.to(accelerator.device)
