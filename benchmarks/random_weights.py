"""Random weights of a shape of `benchmarks.gpu_check`, with builtin/tiny's tokenizer.

python -m benchmarks.random_weights SHAPE FOLDER cuda|cpu
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.gpu_check import SHAPES


def make(name: str, folder: Path, device: str) -> None:
    """Write the model: bfloat16 where it is made on a GPU, whose random numbers are quick."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from rft_cli.config.schema import ModelConfig
    from rft_cli.training.models import load_tokenizer

    shape, tokenizer = SHAPES[name].shape, load_tokenizer(ModelConfig())
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
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
