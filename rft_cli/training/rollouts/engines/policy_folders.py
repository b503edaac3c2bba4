"""A policy's weights as folders that an engine loads: each written once, under a name of its content.

The name has the step and a hash of the weights: an engine that has a name already has these very weights, whoever
loaded them, and a resumed job whose step 12 came out otherwise has another name for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from rft_cli.training.generation_config import blank_generation_config

KEPT = 2
"""Newest versions that stay: one may still be sampled from while the next is loaded."""
_HASHED = 10


@dataclass(frozen=True, slots=True)
class Weights:
    """Tensors on the CPU, and the hash of them with what else decides how they act."""

    tensors: dict[str, torch.Tensor]
    hash: str


class PolicyFolders:
    """The folders `policy-vSTEP-HASH` under `parent`, which is made when it is needed."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent.absolute()
        self._saved: list[str] = []

    def path(self, version: str) -> Path:
        return self.parent / version

    @property
    def saved(self) -> list[str]:
        """The versions whose folders are there, oldest first."""
        return list(self._saved)

    def save(self, weights: Weights, model: Any, step: int) -> str:
        """The version of these weights, whose folder is there now; they are those of `model`."""
        version = f"policy-v{step}-{weights.hash}"
        if version in self._saved:
            # The newest again, where a validation follows the batch that loaded it.
            self._saved.remove(version)
            self._saved.append(version)
            return version
        draft = self.parent / f".{version}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _write(model, weights.tensors, draft)
        shutil.rmtree(self.path(version), ignore_errors=True)
        os.replace(draft, self.path(version))
        self._saved.append(version)
        return version

    def remove_old(self) -> list[str]:
        """Delete all but the newest `KEPT`; the versions that were deleted."""
        old, self._saved = self._saved[:-KEPT], self._saved[-KEPT:]
        for name in old:
            shutil.rmtree(self.path(name), ignore_errors=True)
        return old

    def remove(self) -> None:
        """Delete all of them."""
        shutil.rmtree(self.parent, ignore_errors=True)


def weights_of(model: Any) -> Weights:
    """The adapter of a model that has one, else all its weights."""
    found = get_peft_model_state_dict(model) if isinstance(model, PeftModel) else model.state_dict()
    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in found.items()}
    return Weights(tensors, content_hash(tensors, _setup(model)))


def content_hash(weights: dict[str, torch.Tensor], setup: str) -> str:
    """A short hash of the tensors' names and bytes, and of what else decides how they act."""
    total = hashlib.blake2b(setup.encode(), digest_size=_HASHED // 2)
    for name in sorted(weights):
        tensor = weights[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # Reading bytes from a tensor without elements or dimensions needs the flat shape.
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _setup(model: Any) -> str:
    if not isinstance(model, PeftModel):
        return ""
    config = model.peft_config[model.active_adapter]
    return json.dumps([config.r, config.lora_alpha, sorted(config.target_modules)])


def _write(model: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    if isinstance(model, PeftModel):
        save_file(weights, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
        model.peft_config[model.active_adapter].save_pretrained(str(folder))
        return
    with blank_generation_config(model):
        model.save_pretrained(str(folder))
