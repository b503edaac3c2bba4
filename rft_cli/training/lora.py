"""Where LoRA adapters go: linear layers of the text model that are always called, so that an adapter acts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from rft_cli.errors import UsageError

ALL_LINEAR = "all-linear"
_READ = re.compile(r"\bself\.(\w+)\.(?:weight|bias)\b(?!\.(?:dtype|device|shape|ndim)\b| is )")


def lora_targets(model: Any, wanted: str | Sequence[str]) -> list[str]:
    """The full names of the modules that `lora.target_modules` means.

    `all-linear` is every linear layer of the text model, but for the language-model head and for layers whose weights
    the model reads without calling them: an adapter acts in the call. A vision tower gets none.

    Raises UsageError where `wanted` names what the model does not have, or where no adapter can act.
    """
    inside = text_model(model)
    prefix = next(name for name, module in model.named_modules() if module is inside)
    text = {
        name: module
        for name, module in model.named_modules()
        if _within(name, prefix) and module is not inside
    }
    head = model.get_output_embeddings()
    unseen = set(_read_past_the_call(model))
    linear = [name for name, module in text.items() if _is_linear(module) and module is not head]
    if isinstance(wanted, str) and wanted.lower() == ALL_LINEAR:
        return [name for name in linear if name not in unseen]
    every = dict(model.named_modules())
    each = [wanted] if isinstance(wanted, str) else list(wanted)
    absent = [w for w in each if not any(_means(wanted, w, name) for name in every)]
    if absent:
        raise UsageError(
            f"lora.target_modules: the model has no {', '.join(absent)}",
            f"it has: {_ends(linear)}; or set {ALL_LINEAR}",
        )
    matched = [name for name in every if any(_means(wanted, w, name) for w in each)]
    refused = [name for name in matched if name in unseen or (head is not None and every[name] is head)]
    if refused:
        raise UsageError(
            f"lora.target_modules: the model reads the weights of {_ends(refused)} without calling that layer, "
            "so an adapter on it would not act",
            f"leave it out, or set {ALL_LINEAR}",
        )
    found = [name for name in matched if name in text]
    if not found:
        raise UsageError(
            f"lora.target_modules: {', '.join(each)} is in no part of the model that reads text",
            f"the text model has: {_ends(linear)}; or set {ALL_LINEAR}",
        )
    return found


def text_model(model: Any) -> nn.Module:
    """The part that reads text: the decoder itself, without a vision tower."""
    decoder: nn.Module = model.get_decoder()
    return decoder


def freeze_beside_text(model: Any) -> None:
    """Freeze what no text passes through, such as a vision tower: DDP would wait for its gradients."""
    text = {id(p) for p in text_model(model).parameters()}
    for parameter in model.base_model.parameters():
        if id(parameter) not in text:
            parameter.requires_grad_(False)


def _is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer, and not a router built on one that returns its choice of experts."""
    if not isinstance(module, nn.Linear | Conv1D):
        return False
    if (
        type(module).forward in (nn.Linear.forward, Conv1D.forward)
        or ".modeling_" not in type(module).__module__
    ):
        return True
    try:
        with torch.no_grad():
            return isinstance(module(module.weight.new_zeros(1, module.in_features)), torch.Tensor)
    except (RuntimeError, TypeError, ValueError):
        return False


def _read_past_the_call(model: nn.Module) -> Iterator[str]:
    """Layers whose weights their parent reads without calling them, as fused kernels of state-space models do."""
    seen: dict[type, set[str]] = {}
    for name, module in model.named_modules():
        if type(module) not in seen:
            try:
                code = inspect.getsource(type(module))
            except (OSError, TypeError):
                code = ""
            seen[type(module)] = set(_READ.findall(code))
        yield from (
            f"{name}.{child}" if name else child
            for child, _ in module.named_children()
            if child in seen[type(module)]
        )


def _within(name: str, prefix: str) -> bool:
    return not prefix or name.startswith(f"{prefix}.")


def _means(wanted: str | Sequence[str], one: str, name: str) -> bool:
    """As in PEFT: a text is a regular expression of the whole name, an entry of a list its end."""
    if not isinstance(wanted, str):
        return name == one or name.endswith(f".{one}")
    try:
        return re.fullmatch(one, name) is not None
    except re.error:
        return False


def _ends(names: Iterable[str]) -> str:
    return ", ".join(sorted({name.rpartition(".")[2] for name in names}))
