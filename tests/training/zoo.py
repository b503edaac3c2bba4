"""Tiny random models of the architectures that transformers reads, with the tokenizer of builtin/tiny."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rft_cli.runs.sources import BUILTIN

VOCABULARY = 1280
SCALE = 5.0
"""Random weights are that much larger than their class makes them: else every token is as likely as another."""

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": 3, "pad_token_id": 0,
    "hidden_size": 32, "n_embd": 32, "d_model": 32, "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2,
    "num_layers": 2, "intermediate_size": 64, "n_inner": 64, "ffn_dim": 64, "ffn_hidden_size": 64,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "shared_intermediate_size": 32,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "num_key_value_heads": 2,
    "num_kv_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "n_positions": 256, "max_seq_len": 256,
    "context_length": 256, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4,
    "num_experts_per_tok": 2, "num_experts_per_token": 2, "moe_k": 2, "n_group": 1, "topk_group": 1,
    "mamba_n_heads": 8, "mamba_num_heads": 8, "mamba_d_head": 8, "mamba_head_dim": 8, "mamba_d_state": 8,
    "ssm_state_size": 8, "state_size": 8, "mamba_d_ssm": 64, "mamba_n_groups": 1, "n_groups": 1,
    "mamba_dt_rank": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "sliding_window": 16, "lru_width": 32, "attention_window_size": 16,
    "query_pre_attn_scalar": 8, "max_window_layers": 1, "attention_hidden_size": 32,
}  # fmt: skip
"""Set where a configuration has the field."""

LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}  # fmt: skip
LINEAR_AND_FULL = {"layer_types": ["linear_attention", "full_attention"]}
ROTARY = {"rotary_dim": 8}

ZOO: dict[str, dict[str, Any]] = {
    "afmoe": {}, "apertus": {}, "arcee": {}, "bamba": {"layers_block_type": ["mamba", "attention"]},
    "biogpt": {}, "bitnet": {}, "bloom": {}, "codegen": ROTARY, "cohere": {}, "cohere2": {},
    "cwm": {"bos_token_id": 1}, "deepseek_v2": LATENT, "deepseek_v3": LATENT, "diffllama": {}, "doge": {},
    "dots1": {}, "ernie4_5": {}, "ernie4_5_moe": {}, "exaone4": {}, "falcon": {}, "falcon_h1": {},
    "falcon_mamba": {}, "flex_olmo": {}, "gemma": {}, "gemma2": {}, "gemma3_text": {}, "glm": {}, "glm4": {},
    "glm4_moe": {}, "gpt2": {}, "gpt_bigcode": {}, "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gpt_neox": {}, "gpt_oss": {}, "gptj": ROTARY, "granite": {}, "granitemoe": {},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]}, "granitemoeshared": {}, "helium": {},
    "hunyuan_v1_dense": {}, "hunyuan_v1_moe": {}, "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "jetmoe": {}, "lfm2": {}, "lfm2_moe": {"layer_types": ["conv", "full_attention"]}, "llama": {},
    "llama4_text": {}, "mamba": {}, "mamba2": {"expand": 2, "num_heads": 8, "head_dim": 8}, "minimax": {},
    "minimax_m2": {}, "ministral": {}, "ministral3": {}, "mistral": {}, "mixtral": {}, "mpt": {}, "nanochat": {},
    "nemotron": {}, "nemotron_h": {}, "olmo": {}, "olmo2": {}, "olmo3": {}, "olmo_hybrid": {}, "olmoe": {},
    "openai-gpt": {}, "opt": {}, "persimmon": {}, "phi": {}, "phi3": {}, "phimoe": {}, "qwen2": {}, "qwen2_moe": {},
    "qwen3": {}, "qwen3_5_text": LINEAR_AND_FULL, "qwen3_moe": {}, "qwen3_next": LINEAR_AND_FULL,
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]}, "rwkv": {}, "seed_oss": {}, "smollm3": {},
    "stablelm": {}, "starcoder2": {}, "vaultgemma": {}, "xglm": {}, "xlstm": {},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"], "layer_types": ["mamba", "hybrid"]},
}  # fmt: skip


def config_of(kind: str) -> Any:
    """The configuration of a tiny model of this type."""
    made = CONFIG_MAPPING[kind]
    fields = {*vars(made()), *getattr(made, "attribute_map", {})}
    return made(**{name: value for name, value in SMALL.items() if name in fields} | ZOO[kind])


def write_model(folder: Path, kind: str) -> Path:
    """A checkpoint of this type, as people have them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(config_of(kind), dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(SCALE)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUILTIN / "tiny" / name, folder)
    return folder
