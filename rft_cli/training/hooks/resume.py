"""What a checkpoint must hold beside TRL's own files, so that a resumed job goes on where it stopped.

A mixin over TRL's trainers. Prompt order is a pure function of seed and epoch; the rollout buffer and the counters
are saved by every process. A critic that is equal on all processes is saved once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils.data import Sampler
from transformers import Trainer
from trl.trainer.utils import RepeatSampler

from rft_cli.errors import RunFailed


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
        folder = Path(output_dir)
        torch.save(self.rollout_state(), folder / f"rollout-{self.args.process_index}.pt")
        if self.critic is not None and (self._critic_is_sharded or self.args.process_index == 0):
            torch.save(self.critic_state(), folder / self._critic_file)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        # transformers calls this when the rows that were trained on are passed over, and takes a missing file lightly.
        if checkpoint is None:
            return
        folder, rank = Path(checkpoint), self.args.process_index
        generators = "rng_state.pth" if self.args.world_size <= 1 else f"rng_state_{rank}.pth"
        if not (folder / generators).is_file():
            raise RunFailed(
                f"{folder / generators} is missing: the checkpoint is from another number of processes"
            )
        super()._load_rng_state(checkpoint)
        self.load_rollout_state(self._read(folder / f"rollout-{rank}.pt"))
        if self.critic is not None:
            self.load_critic_state(self._read(folder / self._critic_file))

    def _read(self, file: Path) -> Any:
        return torch.load(file, weights_only=True, map_location=_location(self.args.device))

    def rollout_state(self) -> dict[str, Any]:
        """Where this process stands between two optimizer steps, as tensors and plain values.

        The buffer holds the rollout batch that is being trained on. Between two batches nothing of it is needed.
        Metrics are not in it: a checkpoint is taken when those of its step are logged.
        """
        trainer: Any = self
        used_up = trainer._step % (self.args.steps_per_generation * trainer.num_iterations) == 0
        return {
            "step": trainer._step,
            "buffer": None if used_up else trainer._buffered_inputs,
            "rollouts_seen": self.rollouts_seen,
        }

    def load_rollout_state(self, state: dict[str, Any]) -> None:
        trainer: Any = self
        trainer._step, trainer._buffered_inputs = state["step"], state["buffer"]
        self.rollouts_seen = state["rollouts_seen"]

    @property
    def _critic_is_sharded(self) -> bool:
        return any(isinstance(p, DTensor) for p in self.critic.trained_parameters())

    @property
    def _critic_file(self) -> str:
        return f"critic-{self.args.process_index}.pt" if self._critic_is_sharded else "critic.pt"

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


def _location(device: torch.device) -> torch.device | str:
    """Where torch.load puts tensors: several processes on CPUs have "cpu:0", which it doesn't know."""
    return "cpu" if device.type == "cpu" else device
