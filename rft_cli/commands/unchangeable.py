"""What no checkpoint of a run can be continued with another value of, `--force` or not; and why."""

from __future__ import annotations

_CONTENT = "it decides which weights and optimizers a checkpoint holds"
_BASE = "a checkpoint is what became of that model, and KL is measured to it"
_ADAPTER = "it shapes the adapter whose weights a checkpoint holds"
_BATCH = "it decides how many optimizer steps a rollout batch has or what is in it, and a step is a place in the rows"

UNCHANGEABLE = {
    "algorithm": _CONTENT,
    "model.path": _BASE,
    "model.revision": _BASE,
    "lora.enabled": _CONTENT,
    "lora.r": _ADAPTER,
    "lora.alpha": _ADAPTER,
    "lora.target_modules": _ADAPTER,
    "rollout.group_size": _BATCH,
    "rollout.prompts_per_batch": _BATCH,
    "ppo.passes": _BATCH,
    "ppo.minibatches": _BATCH,
    "ppo.critic": _CONTENT,
    "num_processes": "each process has its own random numbers and its own part of the rollout batch in a checkpoint",
}
"""Settings, and the reason that a message gives for each."""
