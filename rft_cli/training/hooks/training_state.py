"""What a checkpoint must hold beside TRL's own files, so that a resumed job goes on where it stopped.

Mixins over TRL's trainers. The order of rows is a pure function of seed and epoch; what a process has for itself (the
rollout buffer, counters) is saved by every process. A critic that is equal on all processes is saved once. Learning
rates and weight decay are settings: the job's configuration has them, whatever a checkpoint says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from transformers import Trainer
from trl.trainer.utils import RepeatSampler, split_tensor_dict

from rft_cli.errors import RunFailed

CRITIC = "critic.pt"


def epoch_seed(seed: int | None, epoch: float | None) -> int:
    """The seed of the order in which an epoch takes its rows; `epoch` is how many passes were made so far."""
    return (seed or 0) * 100_003 + int(epoch or 0)


class EpochSampler(RepeatSampler):
    """RepeatSampler whose order depends on seed and epoch alone; `trainer` says which epoch it is."""

    trainer: Any = None

    def __iter__(self) -> Any:
        if self.shuffle:
            self.generator.manual_seed(epoch_seed(self.seed, self.trainer.state.epoch))
        return super().__iter__()


class Resumable(Trainer):
    """Saves and restores what TRL forgets. `critic` and `critic_optimizer` are PPO's; None in the others."""

    critic: Any = None
    critic_optimizer: Any = None
    _decays: list[float | None]  # of the optimizer's groups
    _rates: list[float | torch.Tensor]

    def create_scheduler(self, *args: Any, **kwargs: Any) -> Any:
        """Made once the optimizer is and before a checkpoint is loaded: its groups are as the job configures them."""
        scheduler = super().create_scheduler(*args, **kwargs)
        self._decays = [group.get("weight_decay") for group in self.optimizer.param_groups]
        self._rates = list(getattr(scheduler, "base_lrs", ()))
        return scheduler

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._apply_settings()

    def _apply_settings(self) -> None:
        """The configured rates on the configured schedule, at the position that was loaded.

        An unchanged job gets what was loaded already, to the bit: `LambdaLR` itself computes base rate x factor.
        """
        for group, decay in zip(self.optimizer.param_groups, self._decays, strict=True):
            if decay is not None:
                group["weight_decay"] = decay
        scheduler = self.lr_scheduler
        if not isinstance(scheduler, LambdaLR):  # DeepSpeed's own: its file has the rates
            return
        scheduler.base_lrs = self._rates
        rates: list[float | torch.Tensor] = [
            base * factor(scheduler.last_epoch)
            for base, factor in zip(self._rates, scheduler.lr_lambdas, strict=True)
        ]
        for group, base, rate in zip(self.optimizer.param_groups, self._rates, rates, strict=True):
            group["initial_lr"], group["lr"] = base, rate
        scheduler._last_lr = rates

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        folder = Path(output_dir)
        torch.save(self.process_state(), folder / f"rollout-{self.args.process_index}.pt")
        if self.critic is not None and self.args.process_index == 0:
            torch.save(self.critic_state(), folder / CRITIC)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        # transformers calls this when the rows that were trained on are passed over, and takes a missing file lightly.
        if checkpoint is None:
            return
        folder, rank = Path(checkpoint), self.args.process_index
        if len([*folder.glob("rollout-*.pt")]) == self.args.world_size:
            generators = "rng_state.pth" if self.args.world_size <= 1 else f"rng_state_{rank}.pth"
            if not (folder / generators).is_file():
                raise RunFailed(f"{folder / generators} is missing")
            super()._load_rng_state(checkpoint)
            self.load_process_state(self._read(folder / f"rollout-{rank}.pt"))
        else:  # of another number of processes: what each had for itself can't be dealt out
            set_seed(self.args.seed + self.state.global_step, device_specific=True)
            self.load_process_state(self.for_other_processes(self._read(folder / "rollout-0.pt")))
        if self.critic is not None:
            self.load_critic_state(self._read(folder / CRITIC))

    def _read(self, file: Path) -> Any:
        return torch.load(file, weights_only=True, map_location=_location(self.args.device))

    def process_state(self) -> dict[str, Any]:
        """What this process has between two optimizer steps beside their number, as tensors and plain values."""
        return {}

    def load_process_state(self, state: dict[str, Any]) -> None:
        """Go on where `process_state` was taken."""

    def for_other_processes(self, state: dict[str, Any]) -> dict[str, Any]:
        """Of process 0's state what another number of processes goes on with."""
        return state

    def critic_state(self) -> dict[str, Any]:
        """The critic's parameters, scale and optimizer, as plain tensors."""
        optimizer = self.critic_optimizer
        return {
            "parameters": [p.detach().cpu() for p in self.critic.parameters()],
            "scale": self.critic.scale.state_dict(),
            "optimizer": None if optimizer is None else optimizer.inner.state_dict(),
        }

    def load_critic_state(self, state: dict[str, Any]) -> None:
        self.critic.scale.load_state_dict(state["scale"])
        # Earlier versions saved a head for the critic `none` too, which nothing reads.
        if self.critic_optimizer is not None:
            for parameter, saved in zip(self.critic.parameters(), state["parameters"], strict=True):
                with torch.no_grad():
                    parameter.copy_(saved)
            self.critic_optimizer.load(state["optimizer"])


class ResumableRollouts(Resumable):
    """What trainers with rollouts save beside that."""

    spread: Any
    shortcuts: Any
    restore_shortcuts: Any
    rollouts_seen = 0

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:
        sampler = super()._get_train_sampler(dataset)
        sampler.__class__ = EpochSampler
        sampler.trainer = self
        return sampler

    def process_state(self) -> dict[str, Any]:
        """The rollout batch in work, and what is counted over all of them.

        The buffer holds the rollout batch that is being trained on. Between two batches nothing of it is needed.
        Metrics are not in it: a checkpoint is taken when those of its step are logged.
        """
        trainer: Any = self
        used_up = trainer._step % (self.args.steps_per_generation * trainer.num_iterations) == 0
        return super().process_state() | {
            "buffer": None if used_up else trainer._buffered_inputs,
            "rollouts_seen": self.rollouts_seen,
            "spread": self.spread.state_dict(),
            "shortcuts": self.shortcuts(),
        }

    def load_process_state(self, state: dict[str, Any]) -> None:
        super().load_process_state(state)
        trainer: Any = self
        if "spread" not in state:
            raise RunFailed(
                "the checkpoint is of an older rft, whose advantages had another baseline and unit",
                "start a new run, or go on with the version in run.json",
            )
        # In passes through the model, which are smaller or larger with another optim.micro_batch_size.
        trainer._step = self.state.global_step * self.args.gradient_accumulation_steps
        trainer._buffered_inputs = _dealt(state["buffer"], self.args.steps_per_generation)
        anew = (
            state["buffer"] is not None and trainer._buffered_inputs is None
        )  # sampled, and counted, once more
        self.rollouts_seen = state["rollouts_seen"] - anew
        self.spread.load_state_dict(state["spread"])
        self.restore_shortcuts(state["shortcuts"])

    def for_other_processes(self, state: dict[str, Any]) -> dict[str, Any]:
        """What was sampled can't be dealt out: it is sampled anew."""
        return {**state, "buffer": None if state["buffer"] is None else []}


def _dealt(buffer: list[dict[str, Any]] | None, parts: int) -> list[dict[str, Any]] | None:
    """The rollout batch in so many equal parts; None, and it is sampled anew, where its rows don't come out even."""
    if not buffer:
        return None
    if len(buffer) == parts:
        return buffer
    whole = {key: _joined([part[key] for part in buffer]) for key in buffer[0]}
    return split_tensor_dict(whole, parts) if len(whole["prompt_ids"]) % parts == 0 else None


def _joined(values: list[Any]) -> Any:
    """Rows of all parts; a figure of the whole batch stands in each part."""
    first = values[0]
    if isinstance(first, list):
        return [row for rows in values for row in rows]
    return torch.cat(values) if isinstance(first, torch.Tensor) and first.ndim else first


def _location(device: torch.device) -> torch.device | str:
    """Where torch.load puts tensors: several processes on CPUs have "cpu:0", which it doesn't know."""
    return "cpu" if device.type == "cpu" else device
