"""Make the embedded demonstration model: `python -m recipes.build_tiny [--out DIR] [--steps N]`."""

import argparse
from itertools import islice
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from recipes.pretrain import Phase, Settings, save, train, train_tokenizer
from recipes.support_triage import inputs
from recipes.triage_answers import Noise, dialogues

STEPS = 3000
VOCABULARY = 1280
MAX_POSITIONS = 512
TOKENIZER_DIALOGUES = 8000


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A Qwen3 of about a million parameters with random weights."""
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=MAX_POSITIONS,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build(out: Path, steps: int, seed: int) -> float:
    """Train tokenizer and model and save both; returns the seconds that training took.

    The first phase has little noise, so that reading the message is learned first; the second teaches the
    final mix.
    """
    banned = inputs()
    noise = Noise()
    sample = islice(dialogues(seed, banned, noise, triage_share=0.5), TOKENIZER_DIALOGUES)
    texts = (f"{d.user}\n{d.assistant}" for d in sample)
    tokenizer = train_tokenizer(texts, VOCABULARY, MAX_POSITIONS)
    model = new_model(tokenizer, seed)
    phases = [
        Phase(0.62, dialogues(seed + 1, banned, noise.scaled(0.1), triage_share=0.5)),
        Phase(0.38, dialogues(seed + 2, banned, noise, triage_share=0.75)),
    ]
    seconds = train(model, tokenizer, phases, Settings(steps=steps, seed=seed))
    save(model, tokenizer, out)
    return seconds


def main() -> None:
    """Parse the command line, build, say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("rft_cli/builtin/tiny"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seconds = build(arguments.out, arguments.steps, arguments.seed)
    print(f"{arguments.out}: {arguments.steps} steps in {seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
