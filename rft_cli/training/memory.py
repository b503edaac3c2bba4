"""GPU memory: finds a micro-batch that fits before training, and explains errors where memory still runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from rft_cli.errors import OutOfMemory
from rft_cli.training.auto import largest_divisor
from rft_cli.training.hf_args import Resolved
from rft_cli.training.rollouts.backbone import backbone_of

ADAM_BYTES = 8
"""Two 32-bit moments that the optimizer keeps of each trained weight."""

WEIGHTS = "take a smaller model or a GPU with more memory, or set lora.enabled to true"
SAMPLING = "set validation.batch_size or rollout.max_completion_tokens lower, or take a smaller model"
"""Fixes where the model does not fit on the device, and where sampling of validations or the pilot does not."""


@contextmanager
def explain(fix: str) -> Iterator[None]:
    """Raise OutOfMemory with this fix where memory runs out inside the block."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = (str(error).strip() or "the device has no more").splitlines()[0]
        raise OutOfMemory(f"out of memory: {first}", fix) from error


def in_training(micro_batch_size: int, teaches: bool = False) -> str:
    """The fix in training: an update holds a micro-batch at a time, sampling a process's whole rollout batch.

    `teaches`: sft, which samples in validations alone.
    """
    smaller = f"optim.micro_batch_size to {micro_batch_size // 2} (it was {micro_batch_size}), "
    rollouts = (
        "" if teaches else "rollout.prompts_per_batch, rollout.group_size, rollout.max_completion_tokens or "
    )
    return (
        f"set {smaller if micro_batch_size > 1 else ''}{rollouts}validation.batch_size lower, "
        "or model.gradient_checkpointing to true"
    )


def fitting(model: Any, resolved: Resolved, tokens: int, share: int) -> int:
    """The largest micro-batch up to the resolved one, dividing `share`, of which a training pass fits on the device.

    Tried with rows of `tokens` tokens, the longest that can come, and with what training will hold beside them. The
    smallest of all processes' counts; all of them call this.
    """
    size = resolved.micro_batch_size
    while size > 1 and not _fits(model, resolved, size, tokens):
        size = largest_divisor(share, size // 2)
    if dist.is_available() and dist.is_initialized():
        smallest = torch.tensor(size, device=model.device)
        dist.all_reduce(smallest, dist.ReduceOp.MIN)
        size = int(smallest)
    return size


def _fits(model: Any, resolved: Resolved, rows: int, tokens: int) -> bool:
    weights = [(weight, weight.requires_grad) for weight in model.parameters()]
    held: list[torch.Tensor] = []
    training = model.training
    try:
        if not resolved.lora:  # the optimizer's moments and the frozen copy
            held += [
                torch.empty(
                    p.numel() * (ADAM_BYTES * trained + p.element_size()), dtype=torch.uint8, device=p.device
                )
                for p, trained in weights
            ]
        _one_pass(model, resolved, rows, tokens)
    except torch.OutOfMemoryError:
        return False
    finally:
        held.clear()
        model.zero_grad(set_to_none=True)
        for weight, trained in weights:
            weight.requires_grad_(trained)
        if resolved.lora:
            model.disable_input_require_grads()
        if resolved.gradient_checkpointing:
            model.gradient_checkpointing_disable()
        model.train(training)
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def _one_pass(model: Any, resolved: Resolved, rows: int, tokens: int) -> None:
    """Forward and backward through the decoder; with LoRA its weights are frozen, and gradients flow through them."""
    model.train()
    if resolved.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if resolved.lora:
        model.requires_grad_(False)
        model.enable_input_require_grads()
    ids = torch.zeros(rows, tokens, dtype=torch.long, device=model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda"):
        states = backbone_of(model)(ids, attention_mask=torch.ones_like(ids), use_cache=False)
    states.last_hidden_state.float().sum().backward()
