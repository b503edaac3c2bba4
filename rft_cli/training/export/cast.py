"""Weights in another precision, each exactly as transformers holds it when it loads the model in that precision."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rft_cli.runs.model_source import ModelSource
from rft_cli.training.models import place_of

LORA = ".lora_"
"""Stands in the name of every weight of an adapter."""


def stored_precision(
    source: ModelSource, dtype: torch.dtype | None, trust_remote_code: bool
) -> tuple[torch.dtype, dict[str, torch.dtype]]:
    """The model's precision when loaded in `dtype` (None: as its files say), and that of every weight.

    Some models keep a few weights in float32 whatever the rest is in. No weights are read.
    """
    if source.is_gguf:
        # Its quantised weights are read into float32.
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(**place_of(source))
            model = AutoModelForCausalLM.from_config(config, dtype=dtype or torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(
            source.base,
            revision=source.revision,
            dtype=dtype or "auto",
            device_map="meta",
            trust_remote_code=trust_remote_code,
        )
    return model.dtype, {name: tensor.dtype for name, tensor in model.state_dict().items()}


@torch.no_grad()
def round_weights(model: Any, dtypes: Mapping[str, torch.dtype]) -> None:
    """Round every saved weight to its precision in `dtypes`, and keep computing in the one it is in now.

    Buffers that are not saved (a rotary embedding's frequencies) are no weights: a plain load does not round them.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(dtypes[name]))


def cast_weights(model: Any, dtypes: Mapping[str, torch.dtype]) -> None:
    """Hold every saved weight in its precision in `dtypes`."""
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtypes[name])


def fingerprints(model: Any, part: str = "") -> dict[str, str]:
    """The SHA-256 of every saved weight with `part` in its name: models with equal ones have the same bits."""
    found = {}
    for name, tensor in model.state_dict().items():
        if part in name:
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found[name] = hashlib.sha256(flat.numpy().data).hexdigest()
    return found
