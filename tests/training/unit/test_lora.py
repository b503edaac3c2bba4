"""Which modules `lora.target_modules` means, on models of many kinds."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    MambaConfig,
    PhimoeConfig,
    Qwen3Config,
    RwkvConfig,
    SiglipVisionConfig,
)

from rft_cli.errors import UsageError
from rft_cli.training.lora import freeze_beside_text, lora_targets
from tests.training import toys

TEXT: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


def model_of(config: Any) -> Any:
    return AutoModelForCausalLM.from_config(config)


def multimodal() -> Any:
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28
    )
    return model_of(
        Gemma3Config(text_config=Gemma3TextConfig(**TEXT), vision_config=vision, mm_tokens_per_image=4)
    )


def ends(names: list[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in names}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Qwen3Config(**TEXT), {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        (GPT2Config(vocab_size=32, n_embd=16, n_head=2, n_layer=2), {"c_attn", "c_proj", "c_fc"}),
        (MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2, state_size=4), {"in_proj"}),
        (
            RwkvConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2, attention_hidden_size=16),
            {"key", "value", "receptance", "output"},
        ),
        (PhimoeConfig(**{**TEXT, "num_local_experts": 2}), {"q_proj", "k_proj", "v_proj", "o_proj"}),
        (
            FalconConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2),
            {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
        ),
    ],
    ids=["qwen3", "gpt2", "mamba", "rwkv", "phimoe", "falcon"],
)
def test_all_linear_is_what_an_adapter_reaches(config: Any, expected: set[str]) -> None:
    """Neither the head, nor what a fused kernel reads without a call: PEFT refuses some of those, and misses others."""
    model = model_of(config)
    targets = lora_targets(model, "all-linear")
    assert ends(targets) == expected
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM"))
    loss = adapted(torch.tensor([[5, 6, 7]])).logits.sum()
    loss.backward()
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad), "every adapter acts"


def test_a_vision_tower_gets_no_adapter() -> None:
    """Though it has layers of the same names."""
    model = multimodal()
    vision = [name for name, _ in model.named_modules() if "vision" in name and name.endswith("q_proj")]
    assert vision
    for wanted in ("all-linear", ["q_proj", "v_proj"], r".*\.q_proj"):
        targets = lora_targets(model, wanted)
        assert len(targets) >= 2
        assert all("language_model" in name for name in targets), wanted
    with pytest.raises(UsageError, match=r"patch_embedding is in no part of the model that reads text"):
        lora_targets(model, ["patch_embedding"])
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=lora_targets(model, "all-linear")))
    assert not any("vision" in name for name, p in adapted.named_parameters() if p.requires_grad)


def test_only_what_reads_text_trains() -> None:
    model = multimodal()
    freeze_beside_text(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert trained
    assert all("vision" in name or "projector" in name for name in frozen)
    assert not any("vision" in name or "projector" in name for name in trained)
    model(torch.tensor([[5, 6, 7]])).logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_text_model_trains_whole() -> None:
    model = toys.qwen3()
    freeze_beside_text(model)
    assert all(p.requires_grad for p in model.parameters())


def test_names_and_patterns() -> None:
    model = model_of(Qwen3Config(**TEXT))
    first = "model.layers.0.self_attn.q_proj"
    assert lora_targets(model, ["q_proj"]) == [first, first.replace("0", "1")]
    assert lora_targets(model, ["layers.0.self_attn.q_proj"]) == [first]
    assert lora_targets(model, r".*\.0\.self_attn\.(q|v)_proj") == [first, first.replace("q_proj", "v_proj")]


def test_names_that_are_not_there() -> None:
    model = model_of(Qwen3Config(**TEXT))
    for wrong in (["q_proj", "foo"], "foo", "("):
        message = (
            f"lora.target_modules: the model has no {re.escape(wrong if isinstance(wrong, str) else 'foo')}"
        )
        with pytest.raises(UsageError, match=message) as caught:
            lora_targets(model, wrong)
        assert caught.value.fix is not None
        assert "q_proj" in caught.value.fix


@pytest.mark.parametrize("wanted", [["lm_head"], ".*lm_head", ["q_proj", "lm_head"]])
def test_the_head_gets_no_adapter(wanted: Any) -> None:
    """Its weights are read by the fused log-probabilities."""
    with pytest.raises(UsageError, match="reads the weights of lm_head without calling that layer"):
        lora_targets(model_of(Qwen3Config(**TEXT)), wanted)


def test_what_a_kernel_reads_is_refused_by_name() -> None:
    model = model_of(MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2, state_size=4))
    with pytest.raises(UsageError, match="reads the weights of dt_proj, out_proj without"):
        lora_targets(model, ["in_proj", "out_proj", "dt_proj"])
