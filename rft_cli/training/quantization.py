"""QLoRA (Dettmers et al. 2023): adapters in float32 beside a frozen base in 4 bits, through bitsandbytes.

The base is quantised while it loads, in every process, and never saved: an export takes the base as it was published.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig

from rft_cli.config.schema import LoraConfig
from rft_cli.errors import UsageError
from rft_cli.runs.model_source import ModelSource


def settings_of(lora: LoraConfig, compute: str, source: ModelSource) -> BitsAndBytesConfig | None:
    """How `from_pretrained` quantises, None where it does not; UsageError for a base that has no files of its own.

    `compute`: the type that weights are unpacked to for a product.
    """
    if lora.quantize == "none":
        return None
    if source.adapters or source.is_gguf:
        what = "an adapter on its base" if source.adapters else "a GGUF file"
        raise UsageError(
            f"lora.quantize {lora.quantize} can't load {what} in 4 bits",
            "give a directory of whole weights (rft export RUN --format merged writes one)",
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=lora.quantize,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, compute),
    )


def prepare(model: Any) -> None:
    """Freeze the base, and keep what stays unquantised (embeddings, norms, head) in float32, as PEFT does for QLoRA."""
    prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    for module in model.modules():
        # On a CPU with AVX512-BF16 bitsandbytes 0.50 repacks a layer at its first call in evaluation, for a product
        # without a gradient: an adapter below would no longer learn, and a resumed job would compute otherwise.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_quantized(model: Any) -> bool:
    """Whether its linear layers are in 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def keep_adapters_in_float32(model: Any) -> None:
    """Undo TRL's cast of QLoRA adapters to 16 bits, which lose small updates."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if is_quantized(base):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
