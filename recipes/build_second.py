"""Make the second task, data and base model: `python -m recipes.build_second --out DIR [--steps N]`.

Writes DIR/train.jsonl, val.jsonl, test.jsonl, scorer.py and the model in DIR/base. It is not shipped: whoever
runs the long test builds it.
"""

import argparse
import json
import shutil
from itertools import islice
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from recipes.pretrain import Phase, Settings, save, train, train_tokenizer
from recipes.word_problems import dialogues, splits

STEPS = 2000
VOCABULARY = 512
MAX_POSITIONS = 256


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of about half a million parameters with random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=288,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=MAX_POSITIONS,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def write_data(out: Path) -> set[str]:
    """Write the rows and the scorer; returns the questions, which the pretraining text must not contain."""
    out.mkdir(parents=True, exist_ok=True)
    questions: set[str] = set()
    for split, problems in splits().items():
        lines = [json.dumps(problem.row()) + "\n" for problem in problems]
        (out / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        questions |= {problem.question for problem in problems}
    shutil.copyfile(Path(__file__).parent / "second_task" / "scorer.py", out / "scorer.py")
    return questions


def build(out: Path, steps: int, seed: int) -> float:
    """Write the data, train the base; returns the seconds that training took."""
    banned = write_data(out)
    sample = islice(dialogues(seed, banned, noise=0.5), 4000)
    tokenizer = train_tokenizer((f"{d.user}\n{d.assistant}" for d in sample), VOCABULARY, MAX_POSITIONS)
    model = new_model(tokenizer, seed)
    phases = [
        Phase(0.7, dialogues(seed + 1, banned, noise=0.1)),
        Phase(0.3, dialogues(seed + 2, banned, noise=1.0)),
    ]
    seconds = train(model, tokenizer, phases, Settings(steps=steps, seed=seed))
    save(model, tokenizer, out / "base")
    return seconds


def main() -> None:
    """Parse the command line, build, say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seconds = build(arguments.out, arguments.steps, arguments.seed)
    print(f"{arguments.out}: {arguments.steps} steps in {seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
