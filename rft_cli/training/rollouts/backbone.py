"""A causal language model's decoder: where it is, how to replace its forward pass, and its token positions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn


def backbone_of(model: nn.Module) -> nn.Module:
    """The decoder that the language-model head calls, under PEFT or not."""
    wrapped: Any = model
    inner = wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped
    # A text part may have kept the name that the whole multimodal model gives it (Llama 4).
    found = inner.model if inner.base_model is inner else inner.base_model
    # OPT's head calls a decoder inside the base model.
    return getattr(found, "decoder", found)


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Run with the plain base weights: the reference of a policy that trains with LoRA.

    PEFT's own `disable_adapter` freezes the adapters too; here only the field that the forward pass reads is written.
    """
    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    before = [layer._disable_adapters for layer in layers]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, disabled in zip(layers, before, strict=True):
            layer._disable_adapters = disabled


@contextmanager
def replaced_forward(backbone: nn.Module, replacement: Callable[..., Any]) -> Iterator[None]:
    """While open, a call of `backbone` runs `replacement(forward, **inputs)`, where `forward` is its own.

    The call itself is still the module's: wrappers and hooks around it see one call, as before.
    """
    forward, instance = backbone.forward, backbone.__dict__.get("forward")
    names = list(inspect.signature(forward).parameters)

    def named(*values: Any, **inputs: Any) -> Any:
        return replacement(forward, **dict(zip(names, values, strict=False)), **inputs)

    backbone.forward = named
    try:
        yield
    finally:
        if instance is None:
            del backbone.forward
        else:
            backbone.forward = instance


def positions(backbone: nn.Module, attention: Tensor) -> dict[str, Any]:
    """`position_ids` `(B, L)` for a backbone that takes them, counted from each row's first token; else nothing.

    Models with learned positions (GPT-2) would otherwise count the padding too, and score another text than they
    sampled.
    """
    # Of the class: an instance may have a replacement (`replaced_forward`).
    if "position_ids" not in inspect.signature(type(backbone).forward).parameters:
        return {}
    return {"position_ids": (attention.cumsum(dim=1) - 1).clamp(min=0)}
