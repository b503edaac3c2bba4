"""Which of a model's implementations of attention trains faster, where `model.attention` leaves it open."""

from __future__ import annotations

from typing import Any

SHORT = 384
"""Tokens of prompt and completion up to which the plain implementation is faster (docs/benchmarks.md)."""


def choose_attention(model: Any, setting: str | None, device: str, compute: str, tokens: int) -> None:
    """On a CPU in bfloat16 take the plain implementation for short sequences.

    PyTorch's fused one (`sdpa`) takes several times as long there in its backward pass; for long sequences the plain
    one needs more memory, and more time.

    Args:
        setting: `model.attention`; device: its type; compute: what products are computed in.
        tokens: of the longest prompt and completion.
    """
    slow = device == "cpu" and compute == "bfloat16" and tokens <= SHORT
    if setting is None and slow and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")
