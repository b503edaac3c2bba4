"""Memory of a GPU: a micro-batch that fits, tried before training, and what is said when it runs out all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from rft_cli.errors import RunFailed
from rft_cli.training.hf_args import Resolved
from rft_cli.training.rollouts.backbone import backbone_of

ADAM_BYTES = 8
"""Two 32-bit moments that the optimizer keeps of each trained weight."""


@contextmanager
def told(micro_batch_size: int) -> Iterator[None]:
    """Memory that runs out inside ends the job with a plain message."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = f"optim.micro_batch_size to {micro_batch_size // 2} (it was {micro_batch_size}), "
        raise RunFailed(
            f"out of memory: {str(error).strip().splitlines()[0]}",
            f"set {smaller if micro_batch_size > 1 else ''}rollout.max_completion_tokens or validation.batch_size "
            "lower, or model.gradient_checkpointing to true",
        ) from error


def fitting(model: Any, resolved: Resolved, tokens: int, share: int) -> int:
    """The largest micro-batch up to the resolved one, dividing `share`, of which a training pass fits on the device.

    Tried with rows of `tokens` tokens, the longest that can come, and with what training will hold beside them. The
    smallest of all processes' counts; all of them call this.
    """
    size = resolved.micro_batch_size
    while size > 1 and not _fits(model, resolved, size, tokens):
        size = max(n for n in range(1, size // 2 + 1) if share % n == 0)
    if dist.is_available() and dist.is_initialized():
        smallest = torch.tensor(size, device=model.device)
        dist.all_reduce(smallest, dist.ReduceOp.MIN)
        size = int(smallest)
    return size


def _fits(model: Any, resolved: Resolved, rows: int, tokens: int) -> bool:
    weights = list(model.parameters())
    held: list[torch.Tensor] = []
    training = model.training
    try:
        if not resolved.lora:  # the optimizer's moments and the frozen copy
            held += [
                torch.empty(p.numel() * (ADAM_BYTES + p.element_size()), dtype=torch.uint8, device=p.device)
                for p in weights
            ]
        _one_pass(model, resolved, rows, tokens)
    except torch.OutOfMemoryError:
        return False
    finally:
        held.clear()
        model.zero_grad(set_to_none=True)
        for weight in weights:
            weight.requires_grad_(True)
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
