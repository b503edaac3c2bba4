"""Which errors of a model's first use are told as the model's, and which pass as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.training import auto
from rft_cli.training.model_checks import first_use
from tests.training.toys import qwen3


def test_what_a_library_raises_of_a_model_names_the_model(tmp_path: Path) -> None:
    model = qwen3()
    with (
        pytest.raises(UsageError, match=r"Qwen3ForCausalLM \(qwen3\) can't be trained here: "),
        first_use(model, Run(tmp_path), resumed=False),
    ):
        model(torch.zeros(1, 2))
    with pytest.raises(RuntimeError), first_use(model, Run(tmp_path), resumed=True):
        model(torch.zeros(1, 2))
    Run(tmp_path).append_metrics({"step": 1})
    with pytest.raises(RuntimeError), first_use(model, Run(tmp_path), resumed=False):
        model(torch.zeros(1, 2))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED"),
        dist.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp"),
    ],
)
def test_errors_of_the_device_and_of_the_group_pass(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised, first_use(qwen3(), Run(tmp_path), resumed=False):
        raise error
    assert raised.value is error


def test_errors_of_our_own_lines_pass(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty"), first_use(qwen3(), Run(tmp_path), resumed=False):
        auto.largest_divisor(0, 1)
    with pytest.raises(UsageError), first_use(qwen3(), Run(tmp_path), resumed=False):
        json.loads("{")
