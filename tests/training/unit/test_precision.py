"""`model.dtype` on each device: what is computed in, what is refused, what is float32_note."""

from __future__ import annotations

import pytest

from rft_cli.errors import UsageError
from rft_cli.training.precision import compute_dtype, float32_note


@pytest.mark.parametrize(
    ("setting", "device", "bfloat16", "computed"),
    [
        ("auto", "cuda", True, "bfloat16"),
        ("bfloat16", "cuda", True, "bfloat16"),
        ("float32", "cuda", True, "float32"),
        ("float16", "cuda", True, "float16"),
        ("auto", "cuda", False, "float32"),  # T4, V100
        ("bfloat16", "cuda", False, "float32"),
        ("float16", "cuda", False, "float16"),
        ("auto", "cpu", False, "float32"),
        ("bfloat16", "cpu", False, "float32"),
    ],
)
def test_compute_dtype(setting: str, device: str, bfloat16: bool, computed: str) -> None:
    assert compute_dtype(setting, device, bfloat16) == computed


def test_float16_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match=r"model\.dtype: float16 trains on GPUs alone"):
        compute_dtype("float16", "cpu", False)


def test_full_fine_tuning_says_that_it_keeps_float32() -> None:
    start = (
        "full fine-tuning keeps float32 weights, because 16 bits would lose small updates, and computes in"
    )
    assert float32_note("bfloat16", False, "bfloat16") == f"model.dtype bfloat16: {start} bfloat16"
    assert float32_note("bfloat16", False, "float32") == (
        f"model.dtype bfloat16: {start} float32 (this device has no bfloat16 arithmetic)"
    )
    assert float32_note("bfloat16", True, "float32") == float32_note("auto", False, "bfloat16") == ""
