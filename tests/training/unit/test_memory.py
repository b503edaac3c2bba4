"""Memory that runs out: a smaller micro-batch in the trial, one message in training. A hook raises on a CPU here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from rft_cli.errors import OutOfMemory
from rft_cli.training import memory
from rft_cli.training.rollouts.backbone import backbone_of
from tests.training.toys import qwen3
from tests.training.unit.test_hf_args import RESOLVED


@contextmanager
def memory_for(model: Any, most: int) -> Iterator[list[int]]:
    """Forward passes of more than `most` rows run out of memory; the list takes the rows of each pass."""
    seen: list[int] = []

    def refuse(_module: Any, args: tuple[Any, ...]) -> None:
        seen.append(len(args[0]))
        if len(args[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    hook = backbone_of(model).register_forward_pre_hook(refuse)
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_largest_micro_batch_that_fits_is_taken(lora: bool, checkpointing: bool) -> None:
    model = qwen3()
    resolved = replace(RESOLVED, lora=lora, gradient_checkpointing=checkpointing, micro_batch_size=24)
    with memory_for(model, 5) as seen:
        assert memory.fitting(model, resolved, 12, share=48) == 3
    assert seen == [24, 12, 6, 3]
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not model.training
    assert not model.is_gradient_checkpointing


@pytest.mark.parametrize("lora", [False, True])
def test_what_is_frozen_stays_so_and_has_no_moments(lora: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = qwen3()
    model.model.embed_tokens.requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    held: list[int] = []
    empty = torch.empty

    def counted(size: int, **options: Any) -> torch.Tensor:
        held.append(size)
        return empty(size, **options)

    with monkeypatch.context() as patched:
        patched.setattr(memory.torch, "empty", counted)
        memory.fitting(model, replace(RESOLVED, lora=lora, micro_batch_size=2), 12, share=2)
    assert [p.requires_grad for p in model.parameters()] == flags
    copies = [
        p.numel() * (12 if trained else 4) for p, trained in zip(model.parameters(), flags, strict=True)
    ]
    assert held == ([] if lora else copies)


def test_one_completion_is_the_least_and_is_not_tried() -> None:
    model = qwen3()
    with memory_for(model, 0) as seen:
        assert memory.fitting(model, replace(RESOLVED, micro_batch_size=4), 12, share=4) == 1
    assert seen == [4, 2]


def test_memory_that_runs_out_in_training_is_one_message() -> None:
    with pytest.raises(OutOfMemory) as raised, memory.explain(memory.in_training(8)):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    assert raised.value.message == "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert raised.value.fix == (
        "set optim.micro_batch_size to 4 (it was 8), rollout.prompts_per_batch, rollout.group_size, "
        "rollout.max_completion_tokens or validation.batch_size lower, or model.gradient_checkpointing to true"
    )
