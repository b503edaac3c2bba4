"""What a checkpoint must hold beside TRL's own files, so that a resumed job goes on where it stopped.

A mixin over TRL's trainers. Prompt order is a pure function of seed and epoch; the rollout buffer, counters and metric
buffers are saved by every process; the critic's weights and optimizer by each (they are equal on all).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer
from trl.trainer.utils import RepeatSampler


class EpochSampler(RepeatSampler):
    """RepeatSampler whose order depends on seed and epoch alone; `trainer` says which epoch it is."""

    trainer: Any = None

    def __iter__(self) -> Any:
        if self.shuffle:
            self.generator.manual_seed((self.seed or 0) * 100_003 + int(self.trainer.state.epoch or 0))
        return super().__iter__()


class Resumable(Trainer):
    """Saves and restores what TRL forgets. `critic` and `critic_optimizer` are PPO's; None in the others."""

    critic: Any = None
    critic_optimizer: Any
    rollouts_seen = 0

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        sampler = super()._get_train_sampler(dataset)
        sampler.__class__ = EpochSampler
        sampler.trainer = self
        return sampler

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        trainer: Any = self
        state = {
            "step": trainer._step,
            "buffer": trainer._buffered_inputs,
            "metrics": {k: list(v) for k, v in trainer._metrics["train"].items()},
            "rollouts_seen": self.rollouts_seen,
            "critic": None if self.critic is None else self.critic_state(),
        }
        torch.save(state, Path(output_dir) / f"rft_rank{self.args.process_index}.pt")

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        trainer: Any = self
        path = Path(checkpoint) / f"rft_rank{self.args.process_index}.pt"
        state = torch.load(path, weights_only=True, map_location=self.args.device)
        trainer._step, trainer._buffered_inputs = state["step"], state["buffer"]
        trainer._metrics["train"] = defaultdict(list, state["metrics"])
        self.rollouts_seen = state["rollouts_seen"]
        if self.critic is not None:
            self.load_critic_state(state["critic"])

    def critic_state(self) -> dict[str, Any]:
        """The critic's parameters, scale and optimizer, as plain tensors."""
        return {
            "parameters": [p.detach().cpu() for p in self.critic.trained_parameters()],
            "scale": self.critic.scale.state_dict(),
            "optimizer": self.critic_optimizer.inner.state_dict(),
        }

    def load_critic_state(self, state: dict[str, Any]) -> None:
        for parameter, saved in zip(self.critic.trained_parameters(), state["parameters"], strict=True):
            with torch.no_grad():
                parameter.copy_(saved)
        self.critic.scale.load_state_dict(state["scale"])
        self.critic_optimizer.inner.load_state_dict(state["optimizer"])
