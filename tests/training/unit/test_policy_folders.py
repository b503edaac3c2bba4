"""Folders of weights: named by content, written once, removed when two newer ones are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from rft_cli.runs.model_source import BUILTIN
from rft_cli.training.rollouts.engines.policy_folders import PolicyFolders, weights_of


def base() -> Any:
    return AutoModelForCausalLM.from_pretrained(BUILTIN / "tiny")


@pytest.fixture(scope="module")
def policy() -> Any:
    return get_peft_model(base(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))


def move(policy: Any, by: float) -> None:
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.add_(by)


def test_a_folder_is_an_adapter_of_these_weights(policy: Any, tmp_path: Path) -> None:
    move(policy, 0.1)
    folders = PolicyFolders(tmp_path / "engine")
    weights = weights_of(policy)
    version = folders.save(weights, policy, 7)
    assert version == f"policy-v7-{weights.hash}"
    assert [path.name for path in (tmp_path / "engine").iterdir()] == [version]
    again = PeftModel.from_pretrained(base(), folders.path(version))
    ids = torch.arange(20).view(1, 20)
    assert torch.allclose(again(ids).logits, policy(ids).logits, atol=1e-6)


def test_the_name_follows_the_content(policy: Any, tmp_path: Path) -> None:
    folders = PolicyFolders(tmp_path / "engine")
    first = folders.save(weights_of(policy), policy, 1)
    assert folders.save(weights_of(policy), policy, 1) == first
    move(policy, 0.01)
    other = folders.save(weights_of(policy), policy, 1)
    assert other != first
    move(policy, 0.01)
    third = folders.save(weights_of(policy), policy, 2)
    assert folders.remove_old() == [first]
    assert sorted(path.name for path in (tmp_path / "engine").iterdir()) == sorted([other, third])
    folders.remove()
    assert not (tmp_path / "engine").exists()


def test_whole_weights_are_saved_as_a_model(tmp_path: Path) -> None:
    model, folders = base(), PolicyFolders(tmp_path / "engine")
    version = folders.save(weights_of(model), model, 0)
    again = AutoModelForCausalLM.from_pretrained(folders.path(version))
    assert weights_of(again).hash == weights_of(model).hash
