"""Six PPO steps in two processes, of which the second meets numbers that are not finite; each writes what it saw.

Usage: one_bad_rank.py FOLDER. In process 1 alone the loss of step 2 is infinite (its gradients are not), a gradient of
step 4 is NaN, and the critic's loss of rollout batch 5 is infinite.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from rft_cli.training.hooks.divergence import not_finite
from rft_cli.types import Grade, GradeRequest
from tests.training import toys

INF = float("inf")


def grade(request: GradeRequest) -> Grade:
    return toys.graded(len(request.completion) / 30)


def main() -> None:
    folder = Path(sys.argv[1])
    state = PartialState(cpu=True)
    rank = state.process_index
    trainer = toys.trainer_of(
        folder / f"output-{rank}",
        toys.qwen3(head_std=0.1),
        toys.tokenizer_of(16),
        toys.FunctionGrader(grade),
        prompts=["w1 w2 w3", "w4", "w5 w6 w7 w8", "w9 w9"],
        settings={"ppo": {"passes": 1, "critic_warmup": 0}, "rollout": {"group_size": 4}},
        critic="mlp",
        n_epochs=6,
        micro_batch_size=4,
        world_size=2,
    )
    if rank == 1:
        make_bad(trainer)
    trainer.train()
    finite = not not_finite(trainer)
    if rank == 1:
        trainer.model.lm_head.weight.data[0, 0] = INF
    seen = {
        "world_size": state.num_processes,
        "lines": [
            {k: line[k] for k in ("skipped_steps", "skipped_critic_steps", "loss")}
            for line in trainer.state.log_history
            if "skipped_steps" in line
        ],
        "critic": [p.double().sum().item() for p in trainer.critic.parameters()],
        "finite": finite,
        "finite_when_one_is_not": not not_finite(trainer),
        "policy": [
            p.double().sum().item() for n, p in trainer.model.named_parameters() if "lm_head" not in n
        ],
    }
    (folder / f"seen-{rank}.json").write_text(json.dumps(seen))
    torch.distributed.destroy_process_group()


def make_bad(trainer: Any) -> None:
    inner, read = trainer._compute_loss, trainer.critic.forward

    def loss(model: Any, inputs: Any) -> Tensor:
        found: Tensor = inner(model, inputs)
        return found + INF if trainer.state.global_step == 1 else found

    def values(states: Tensor) -> Tensor:
        found: Tensor = read(states)
        return found + INF if trainer.rollouts_seen == 4 and torch.is_grad_enabled() else found

    def gradient(found: Tensor) -> Tensor:
        return found * INF * 0.0 if trainer.state.global_step == 3 else found

    trainer._compute_loss, trainer.critic.forward = loss, values
    trainer.model.lm_head.weight.register_hook(gradient)


if __name__ == "__main__":
    main()
