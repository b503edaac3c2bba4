"""Memory that PPO with LoRA takes above the loaded model, against GRPO's at the same settings.

Peak less what is resident after loading, of the training process: the allocator's figures on a GPU, the kernel's on a
CPU. Each side is a process of its own that loads, trains two rollout batches and ends. The model is the random one of
about 90 M parameters; with --full (the default on a GPU) one of 0.5 B.
"""

from __future__ import annotations

import sys

from benchmarks.common import Row, main, pair
from benchmarks.side import Side
from benchmarks.workload import B0_5, M90, Shape, first_rows, random_model, settings

LIMIT = 1.15
PAIRS = 1
PROMPTS = 4
GROUP = 8
BATCHES = 2
MB = 1_000_000


def rows(full: bool = False, pairs: int = PAIRS) -> list[Row]:
    """One claim; the larger model where `full` or a GPU asks for it."""
    import torch

    large = full or torch.cuda.is_available()
    return [row(B0_5 if large else M90, 1 if large else pairs, 2 if large else PROMPTS)]


def row(shape: Shape, pairs: int, prompts: int) -> Row:
    """Both sides in turn, `pairs` times."""
    config = settings(
        first_rows(prompts),
        model={"path": str(random_model(shape))},
        lora={"enabled": True},
        rollout={"prompts_per_batch": prompts, "group_size": GROUP},
    )
    found = pair(lambda: above(config, "ours"), lambda: above(config, "grpo"), pairs=pairs, warmup=0)
    return Row(
        f"memory: PPO against TRL 1.16 GRPO, LoRA on {shape.name}",
        found.ratio,
        LIMIT,
        "lower",
        f"{found.ours / MB:.0f} MB against {found.theirs / MB:.0f} MB above the loaded model, "
        f"{prompts} x {GROUP} completions; {pairs} pairs, {found.low:.2f} to {found.high:.2f}",
    )


def above(config: str, side: str) -> float:
    """Bytes that training took above the loaded model."""
    command = [sys.executable, "-m", "benchmarks.trainers", side, config]
    with Side(f"memory-{side}", command) as process:
        for _ in range(BATCHES):
            process.ask("round")
        seen = process.ask("memory")
    return float(seen["peak"] - seen["loaded"])


if __name__ == "__main__":
    main(rows, full="a model of 0.5 B parameters; the default where there is a GPU")
