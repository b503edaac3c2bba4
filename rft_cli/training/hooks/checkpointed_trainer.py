"""The files of a checkpoint: what transformers saves, and what a resumed job needs beside that to continue exactly.

What a process has for itself (the rollout buffer, counters) is saved by every process; a critic, which is equal in all
of them, once. Learning rates and weight decay are settings: the job's configuration decides, not the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer
from transformers.integrations.deepspeed import deepspeed_load_checkpoint

from rft_cli.errors import RunFailed
from rft_cli.training.distributed.sharding import reshard
from rft_cli.training.dropout import own_rates
from rft_cli.training.generation_config import FILE, blank_generation_config, write_generation_config

CRITIC = "critic.pt"


class CheckpointedTrainer(Trainer):
    """A mixin over `BaseTrainer`: writes checkpoints where the job wants them, and continues from one.

    transformers itself would make checkpoint-STEP in a directory of its own. It asks for a checkpoint where a callback
    has set `should_save`: after the step's metrics are logged.
    """

    write_checkpoint: Callable[[], None]
    _target: Path | None = None
    # Of the optimizer's groups, as the job configures them.
    _decays: list[float | None]
    _rates: list[float | torch.Tensor]

    # -- saving ------------------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.write_checkpoint()

    def save_into(self, folder: Path) -> None:
        """Write everything that a resumed job needs into `folder`; all processes call this."""
        self._target = folder
        try:
            with own_rates(self.model), blank_generation_config(self.model):
                Trainer._save_checkpoint(self, self.model_wrapped, None)
        finally:
            self._target = None
        inner = folder / f"checkpoint-{self.state.global_step}"
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            for item in inner.iterdir():
                item.rename(folder / item.name)
            inner.rmdir()
            # Only whole weights have one.
            if (folder / FILE).exists():
                write_generation_config(self.model.generation_config, folder)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write whole weights, whatever the processes share: a checkpoint is exported without them."""
        super().save_model(output_dir, _internal_call)
        if self.is_fsdp_enabled and not self._saves_whole:
            self._save(output_dir, state_dict=self.accelerator.get_state_dict(self.model))

    @property
    def _saves_whole(self) -> bool:
        return "FULL_STATE_DICT" in str(self.accelerator.state.fsdp_plugin.state_dict_type)

    def load_weights(self, checkpoint: Path) -> None:
        """Put the policy's saved weights into the model that trains, whatever wraps it: what was saved is tested."""
        if self.is_deepspeed_enabled:
            # Its optimizer holds the weights that count; nothing is trained after this.
            strict = not hasattr(self.model, "get_base_model")
            deepspeed_load_checkpoint(self.model_wrapped, str(checkpoint), load_module_strict=strict)
        elif self.is_fsdp_enabled:
            reshard(self.model_wrapped)
            self._load_from_checkpoint(str(checkpoint), model=self.model_wrapped)
        else:
            self._load_from_checkpoint(str(checkpoint))

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._target is None else str(self._target)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        folder = Path(output_dir)
        torch.save(self.process_state(), folder / f"rollout-{self.args.process_index}.pt")
        critic = self.critic_state()
        if critic is not None and self.args.process_index == 0:
            torch.save(critic, folder / CRITIC)

    # -- loading -----------------------------------------------------------------------------------------------------

    def create_scheduler(self, *args: Any, **kwargs: Any) -> Any:
        """Called after the optimizer is made and before a checkpoint is loaded: its groups are as configured."""
        scheduler = super().create_scheduler(*args, **kwargs)
        self._decays = [group.get("weight_decay") for group in self.optimizer.param_groups]
        self._rates = list(getattr(scheduler, "base_lrs", ()))
        return scheduler

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._apply_settings()

    def _apply_settings(self) -> None:
        """Set the configured rates on the configured schedule, at the position that was loaded.

        An unchanged job gets what was loaded, to the bit: `LambdaLR` itself computes base rate x factor.
        """
        for group, decay in zip(self.optimizer.param_groups, self._decays, strict=True):
            if decay is not None:
                group["weight_decay"] = decay
        scheduler = self.lr_scheduler
        # DeepSpeed has a scheduler of its own, whose file has the rates.
        if not isinstance(scheduler, LambdaLR):
            return
        scheduler.base_lrs = self._rates
        rates: list[float | torch.Tensor] = [
            base * factor(scheduler.last_epoch)
            for base, factor in zip(self._rates, scheduler.lr_lambdas, strict=True)
        ]
        for group, base, rate in zip(self.optimizer.param_groups, self._rates, rates, strict=True):
            group["initial_lr"], group["lr"] = base, rate
        scheduler._last_lr = rates

    def _load_rng_state(self, checkpoint: str | None) -> None:
        # transformers calls this once the rows that were trained on are skipped, and ignores a missing file.
        if checkpoint is None:
            return
        folder, rank = Path(checkpoint), self.args.process_index
        if len([*folder.glob("rollout-*.pt")]) == self.args.world_size:
            generators = "rng_state.pth" if self.args.world_size <= 1 else f"rng_state_{rank}.pth"
            if not (folder / generators).is_file():
                raise RunFailed(f"{folder / generators} is missing")
            super()._load_rng_state(checkpoint)
            self.load_process_state(self._read(folder / f"rollout-{rank}.pt"))
        else:
            # Of another number of processes: what each had for itself can't be shared out.
            set_seed(self.args.seed + self.state.global_step, device_specific=True)
            self.load_process_state(self.for_other_processes(self._read(folder / "rollout-0.pt")))
        if self.critic_state() is not None:
            self.load_critic_state(self._read(folder / CRITIC))

    def _read(self, file: Path) -> Any:
        # Several processes on CPUs have "cpu:0", which torch.load doesn't know.
        device = self.args.device
        return torch.load(file, weights_only=True, map_location="cpu" if device.type == "cpu" else device)
