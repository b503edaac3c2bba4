"""Tiny random models of many architectures, one step of training on each, and docs/models.md, which says what is tried.

`python -m tests.training.zoo docs/models.md` writes the table there anew, between the file's markers.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rft_cli.config.schema import ModelConfig
from rft_cli.runs import Run
from rft_cli.runs.model_source import BUILTIN, find_model
from rft_cli.training.lora import lora_targets
from rft_cli.training.models import load_model, load_policy, load_tokenizer
from rft_cli.types import Grade, Sample
from tests.training import toys

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
    "chunk_size": 16, "mamba_chunk_size": 16, "query_pre_attn_scalar": 8, "max_window_layers": 1,
    "attention_hidden_size": 32,
}  # fmt: skip
"""Set where a configuration has the field."""

LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}  # fmt: skip
LINEAR_AND_FULL = {"layer_types": ["linear_attention", "full_attention"]}
ROTARY = {"rotary_dim": 8}

ZOO: dict[str, dict[str, Any]] = {
    "afmoe": {}, "apertus": {}, "arcee": {}, "bamba": {"attn_layer_indices": [1]},
    "biogpt": {}, "bitnet": {}, "bloom": {}, "codegen": ROTARY, "cohere": {}, "cohere2": {},
    "cwm": {"bos_token_id": 1}, "deepseek_v2": LATENT, "deepseek_v3": LATENT, "diffllama": {}, "doge": {},
    "dots1": {"n_shared_experts": 1}, "ernie4_5": {}, "ernie4_5_moe": {}, "exaone4": {}, "falcon": {}, "falcon_h1": {},
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
    "stablelm": {}, "starcoder2": {}, "vaultgemma": {}, "xglm": {},
    "zamba2": {
        "layer_types": ["mamba", "hybrid"], "attention_hidden_size": 64, "attention_head_dim": 16,
        "mamba_ngroups": 1, "hybrid_layer_ids": [1], "num_key_value_heads": 4,
    },
}  # fmt: skip


_REFUSED = "refused: log-probabilities differ between sampling and scoring"
BROKEN = {
    "recurrent_gemma": _REFUSED,
    "rwkv": _REFUSED,
    "llama4_text": "refused: its decoder stands where no other has it",
}
"""Architectures that do not train, and why."""

SHORT = (
    "bamba", "bloom", "deepseek_v3", "falcon_mamba", "gemma3_text", "gpt_oss", "llama", "mamba2", "olmo2", "opt",
    "phimoe", "qwen3_5_text", "starcoder2",
)  # fmt: skip
"""One of each kind: for every run of the tests; `make zoo` tries all."""

PROMPTS = ("one two three four five", "six", "seven eight nine", "ten ten")


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


@dataclass(frozen=True)
class Step:
    """One PPO step from `base`. `apart`: the largest difference of a token's log-probability from the one that the
    model gives to that row alone, without padding, caches or sharing; `run` holds its checkpoint."""

    ratio: float
    kl_per_token: float
    apart: float
    trainer: Any
    run: Run


def one_step(base: Path, folder: Path, lora: bool, dtype: torch.dtype = torch.float32) -> Step:
    """Train for one step on one rollout batch through the trainer of a job, and save it as a run's checkpoint."""
    config = ModelConfig(path=str(base))
    tokenizer = load_tokenizer(config)
    trainer = toys.trainer_of(
        folder,
        load_policy(find_model(str(base)), config, dtype),
        tokenizer,
        toys.FunctionGrader(lambda request: Grade("graded", len(request.completion) % 7)),
        prompts=PROMPTS,
        settings={
            "ppo": {"kl_coef": 0.05, "critic_warmup": 0, "passes": 1},
            "rollout": {"group_size": 4},
            "lora": {"r": 4},
        },
        critic="mlp",
        lora=lora,
        learning_rate=1e-2 if lora else 1e-3,
    )
    batches: list[dict[str, Tensor]] = []
    sample = trainer._generate_and_score_completions

    def watched(inputs: Any) -> Any:
        batches.append(sample(inputs))
        return batches[-1]

    trainer._generate_and_score_completions = watched
    trainer.train()
    line = next(line for line in trainer.state.log_history if "reward" in line)
    apart = _apart(load_model(find_model(str(base)), config, dtype), batches[0])
    return Step(line["ratio"], line["kl_per_token"], apart, trainer, _saved(base, folder, lora, trainer))


@torch.no_grad()
def _apart(model: Any, batch: dict[str, Tensor]) -> float:
    worst = 0.0
    for row in range(len(batch["prompt_ids"])):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        completion = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        logits = model.eval()(torch.cat([prompt, completion]).unsqueeze(0)).logits[0, len(prompt) - 1 : -1]
        plain = logits.float().log_softmax(-1).gather(1, completion.unsqueeze(1)).squeeze(1)
        found = batch["old_per_token_logps"][row][: len(completion)]
        worst = max(worst, float((plain - found).abs().max()))
    return worst


def _saved(base: Path, folder: Path, lora: bool, trainer: Any) -> Run:
    text = f"model: {{path: {base}}}\nlora: {{enabled: {str(lora).lower()}}}\n"
    run = Run.create(folder / "runs", "made", config_yaml=text, info={"model": str(base)})
    partial = run.begin_checkpoint(1)
    trainer.save_into(partial)
    run.commit_checkpoint(1, partial)
    run.set_best(1)
    prompts = enumerate(PROMPTS[:2])
    run.write_samples(
        "step-000000", [Sample(i, f"v:{i}", text, "", 1, False, Grade("graded", 0.0)) for i, text in prompts]
    )
    return run


# -- docs/models.md ----------------------------------------------------------------------------------------------------

BEGIN = "<!-- zoo: made by `python -m tests.training.zoo docs/models.md`, do not edit -->"
END = "<!-- end of zoo -->"


def table() -> str:
    """A row for each architecture."""
    rows = ["| model type | class | full | LoRA | adapters go to |", "|---|---|---|---|---|"]
    for kind in sorted(ZOO):
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config_of(kind))
        ends = sorted({f"`{name.rpartition('.')[2]}`" for name in lora_targets(model, "all-linear")})
        works = BROKEN.get(kind, "yes")
        rows.append(f"| `{kind}` | {type(model).__name__} | {works} | {works} | {', '.join(ends)} |")
    return "\n".join(rows)


def with_table(text: str) -> str:
    """The document with the current table between its markers."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert begin
    assert end
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_table(document.read_text(encoding="utf-8")), encoding="utf-8")
