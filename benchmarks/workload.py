"""What both sides of a comparison work on: the model, the prompts, the batch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.side import BUILD, ROOT

SAMPLE = ROOT / "sample_data"
TOKENS = 60
"""Length limit of a completion: the benchmarks run no pilot, which would find one."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A randomly initialised model in Qwen3's shape; `vocabulary` may exceed the tokenizer's."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int


M90 = Shape("qwen3-90m", 640, 1600, 16, 10, 5, 64, 32_000)
"""About 88 M parameters, a fifth of them embeddings, as in small models that people use."""

B0_5 = Shape("qwen3-0.5b", 896, 4864, 24, 14, 2, 64, 151_936)
"""The sizes of Qwen2.5-0.5B: 0.49 B parameters."""


def random_model(shape: Shape) -> Path:
    """The model's directory; made the first time."""
    folder = BUILD / "models" / shape.name
    if not (folder / "made").is_file():
        write_random_model(shape, folder)
        (folder / "made").touch()
    return folder


def write_random_model(shape: Shape, folder: Path, device: str = "cpu") -> None:
    """Random weights with the tokenizer of builtin/tiny: bfloat16 where they are made on a GPU, else float32."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from rft_cli.config.schema import ModelConfig
    from rft_cli.training.models import load_tokenizer

    tokenizer = load_tokenizer(ModelConfig())
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
    with torch.device(device):
        model = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=shape.vocabulary,
                hidden_size=shape.hidden,
                intermediate_size=shape.intermediate,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.kv_heads,
                head_dim=shape.head_dim,
                max_position_embeddings=2048,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def first_rows(count: int) -> Path:
    """A training file with the first `count` sample rows: every batch then has the same prompts and padding."""
    lines = (SAMPLE / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:count]
    if len(lines) < count:
        raise ValueError(f"the sample data has {len(lines)} training rows, not {count}")
    path = BUILD / f"train-{count}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def settings(train: Path = SAMPLE / "train.jsonl", seed: int = 0, **sections: dict[str, Any]) -> str:
    """A configuration for `benchmarks.trainers`, as JSON: rft's defaults but for what is given."""
    chosen: dict[str, Any] = {
        "seed": seed,
        "data": {"train": str(train), "validation": str(SAMPLE / "val.jsonl")},
        "grader": {"path": str(SAMPLE / "scorer.py")},
        "rollout": {"max_completion_tokens": TOKENS},
    }
    for name, values in sections.items():
        chosen[name] = {**chosen.get(name, {}), **values}
    return json.dumps(chosen)
