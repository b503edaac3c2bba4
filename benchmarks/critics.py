"""Critic designs, rates and passes on the sample task: `python -m benchmarks.critics [--write]`.

Every variant is the real command with one thing changed, six epochs: seeds 0, 1 and 2 for designs that might be a
default, fewer for the rest; GRPO stands beside them. The tables give the mean validation reward over the seeds after
epochs 1, 2, 4 and 6, and the difference to what the variant changed, paired by seed. Finished runs are kept under
build/learn; --write puts the tables into docs/algorithm.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.jobs import Finished, finished, put_into, run_job
from benchmarks.learn import FOLDER, SEEDS

PAGE = Path("docs/algorithm.md")
EPOCHS = 6
SHOWN = (1, 2, 4, 6)
EPOCH = 384
"""Completions of one epoch: 48 rows, 8 each."""

DESIGNS = {
    "mlp": ["ppo.critic=mlp"],
    "none": ["ppo.critic=none"],
    "GRPO": ["algorithm=grpo"],
}
MLP = {
    "mlp": ["ppo.critic=mlp"],
    "mlp, critic_passes 1": ["ppo.critic=mlp", "ppo.critic_passes=1"],
    "mlp, critic_passes 4": ["ppo.critic=mlp", "ppo.critic_passes=4"],
}
FULL = "full fine-tuning"


@dataclass(frozen=True, slots=True)
class Question:
    """One table: variants compared with the first of them, over `seeds`."""

    title: str
    kind: str
    variants: dict[str, list[str]]
    seeds: tuple[int, ...] = SEEDS


QUESTIONS = {
    "designs": Question("full fine-tuning", FULL, DESIGNS),
    "lora": Question("LoRA", "LoRA", DESIGNS),
    "mlp": Question("settings of `mlp`", FULL, MLP, (0, 1)),
}


def runs(question: Question) -> dict[str, list[Finished]]:
    """All seeds of each variant; seeds outermost, so that a table that was cut off compares like with like."""
    found: dict[str, list[Finished]] = {name: [] for name in question.variants}
    for seed in question.seeds:
        for name, changes in question.variants.items():
            found[name].append(variant(question.kind, name, changes, seed))
    return found


def variant(kind: str, name: str, changes: Sequence[str], seed: int) -> Finished:
    data = Path("sample_data")
    settings = ["validation.every_epochs=1", *(["lora.enabled=true"] if kind == "LoRA" else []), *changes]
    words = "".join(c if c.isalnum() else "-" for c in f"{kind}-{name}".lower())
    arguments = [
        "-t", str(data / "train.jsonl"), "-v", str(data / "val.jsonl"),
        "--reward-model", str(data / "scorer.py"), "--seed", str(seed), "--n-epochs", str(EPOCHS),
        *(word for setting in settings for word in ("--set", setting)),
    ]  # fmt: skip
    return finished(run_job(FOLDER, f"critic-{words}-{seed}", arguments))


def reward(run: Finished, epoch: int) -> float:
    """Mean validation reward after an epoch."""
    return dict(run.curve())[epoch * EPOCH].mean


def table(title: str, found: dict[str, list[Finished]]) -> str:
    """One markdown table; the first variant is what the others are compared with."""
    first, *_ = found
    lines = [
        f"| {title} | " + " | ".join(f"epoch {e}" for e in SHOWN) + f" | six epochs' mean less {first}'s |",
        "|---" * (len(SHOWN) + 2) + "|",
    ]
    base = [area(run) for run in found[first]]
    for name, seeds in found.items():
        means = [statistics.mean(reward(run, e) for run in seeds) for e in SHOWN]
        gaps = [area(run) - b for run, b in zip(seeds, base, strict=True)]
        each = ", ".join(f"{g:+.3f}" for g in gaps)
        said = "" if name == first else f"{statistics.mean(gaps):+.3f} ({each})"
        lines.append(f"| {name} | " + " | ".join(f"{m:.3f}" for m in means) + f" | {said} |")
    return "\n".join(lines)


def area(run: Finished) -> float:
    """Mean validation reward over the epochs: how high and how soon."""
    return statistics.mean(reward(run, e) for e in range(1, EPOCHS + 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE}")
    parser.add_argument("--only", choices=sorted(QUESTIONS), action="append", help="these tables alone")
    arguments = parser.parse_args()
    asked = [QUESTIONS[name] for name in arguments.only or QUESTIONS]
    text = "\n\n".join(table(q.title, runs(q)) for q in asked)
    print(text)
    if arguments.write:
        put_into(PAGE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
