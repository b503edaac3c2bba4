"""What no checkpoint of a run can be continued with another value of, `--force` or not; and why."""

from __future__ import annotations

import os

from rft_cli.commands.longer import steps_an_epoch
from rft_cli.config import RunConfig
from rft_cli.runs import Run

_CONTENT = "it decides which weights and optimizers a checkpoint holds"
_BASE = "a checkpoint is what became of that model, and KL is measured to it"
_ADAPTER = "it shapes the adapter whose weights a checkpoint holds"
_BATCH = "it decides how many optimizer steps a rollout batch has or what is in it, and a step is a place in the rows"
_ROWS = "it decides how many rows a step has, and a step is a place in the rows"
_SPLIT = "a checkpoint has each process's part of the weights, or a rollout batch would have another number of steps"

UNCHANGEABLE = {
    "algorithm": _CONTENT,
    "model.path": _BASE,
    "lora.enabled": _CONTENT,
    "lora.r": _ADAPTER,
    "lora.alpha": _ADAPTER,
    "lora.target_modules": _ADAPTER,
    "rollout.group_size": _BATCH,
    "rollout.prompts_per_batch": _BATCH,
    "ppo.passes": _BATCH,
    "ppo.minibatches": _BATCH,
    "ppo.critic": _CONTENT,
    "sft.batch_size": _ROWS,
    "num_processes": _SPLIT,
}
"""Settings, and the reason that a message gives for each; num_processes only where the reason is so, and the model
not for another revision of it."""


def can_split(run: Run, config: RunConfig, then: int, now: int) -> bool:
    """Whether checkpoints of `then` processes mean the same to `now`: whole weights, and as many steps an epoch."""
    if any(os.environ.get(f"ACCELERATE_USE_{kind}") for kind in ("FSDP", "DEEPSPEED")):
        return False
    for checkpoint in map(run.checkpoint_path, run.checkpoints()):
        if not (checkpoint / "optimizer.pt").is_file() or (checkpoint / "critic-0.pt").exists():
            return False
    return steps_an_epoch(config, then) == steps_an_epoch(config, now)
