"""The data type in which a job computes (`model.dtype`) and its implementation of attention, for this device."""

from __future__ import annotations

from typing import Any

import torch

from rft_cli.errors import UsageError

BF16_FROM_PARAMETERS = 50_000_000
"""On a CPU smaller models gain nothing from it (docs/benchmarks.md)."""
SHORT_SEQUENCE = 384
"""Tokens of prompt and completion up to which the plain implementation is faster (docs/benchmarks.md)."""


def has_bfloat16(device: str, parameters: int = 0) -> bool:
    """Whether products in bfloat16 are faster: a GPU has it in hardware, a CPU too, and the model is large enough."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and parameters >= BF16_FROM_PARAMETERS and cpu_multiplies_bfloat16()


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has AMX or AVX512-BF16."""
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
    return any(check is not None and bool(check()) for check in checks)


def compute_dtype(setting: str, device: str, bfloat16: bool) -> str:
    """What matrix products are computed in (autocast): float32 is none. `bfloat16`: the device has it in hardware.

    Raises UsageError for float16 on a CPU.
    """
    if setting == "float16":
        if device != "cuda":
            raise UsageError(
                "model.dtype: float16 trains on GPUs alone", "set model.dtype to auto, float32 or bfloat16"
            )
        return "float16"
    return "bfloat16" if bfloat16 and setting != "float32" else "float32"


def float32_note(setting: str, lora: bool, computed: str) -> str:
    """The note where full fine-tuning was asked for in 16 bits; else empty."""
    if lora or setting not in ("bfloat16", "float16"):
        return ""
    why = "" if computed == setting else f" (this device has no {setting} arithmetic)"
    return (
        f"model.dtype {setting}: full fine-tuning keeps float32 weights, because 16 bits would lose small updates, "
        f"and computes in {computed}{why}"
    )


def choose_attention(model: Any, setting: str | None, device: str, compute: str, tokens: int) -> None:
    """On a CPU in bfloat16 take the plain implementation for short sequences.

    PyTorch's fused one (`sdpa`) takes several times as long there in its backward pass; for long sequences the plain
    one needs more memory, and more time.

    Args:
        setting: `model.attention`; device: its type; compute: what products are computed in.
        tokens: of the longest prompt and completion.
    """
    wanted = setting is None and wants_plain_attention(device, compute, tokens)
    if wanted and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")


def wants_plain_attention(device: str, compute: str, tokens: int) -> bool:
    """Whether the plain implementation of attention is the faster one; see `choose_attention`."""
    return device == "cpu" and compute == "bfloat16" and tokens <= SHORT_SEQUENCE
