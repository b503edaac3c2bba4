"""Turns RunConfig and the auto rules' choices into TRL's and PEFT's configuration objects; nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from trl import GRPOConfig, RLOOConfig, SFTConfig

from rft_cli.config import RunConfig
from rft_cli.training.ppo.critic import CriticSettings


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings that depend on model, rows and device, resolved.

    `max_steps` and `validate_every` are optimizer steps of whole rollout batches; without `max_steps` the epochs end
    the job. `prompts_per_batch` under sft: rows of an optimizer step. `temperature` is that of rollouts. `compute`:
    float32, or bfloat16 or float16 as autocast over the weights' own type.
    """

    lora: bool
    learning_rate: float
    critic: str
    critic_learning_rate: float
    n_epochs: int
    max_steps: int | None
    validate_every: int
    prompts_per_batch: int
    max_completion_tokens: int
    micro_batch_size: int
    gradient_checkpointing: bool
    critic_warmup: int
    world_size: int
    minibatches: int
    temperature: float = 1.0
    compute: str = "float32"

    def rollout_size(self, group_size: int) -> int:
        """Completions in one rollout batch, over all processes."""
        return self.prompts_per_batch * group_size


def _every_trainers(config: RunConfig, resolved: Resolved, output_dir: str, per_step: int) -> dict[str, Any]:
    """What all of TRL's configurations share; `per_step`: sequences of an optimizer step in one process."""
    return {
        "output_dir": output_dir,
        "seed": config.seed,
        "per_device_train_batch_size": resolved.micro_batch_size,
        "gradient_accumulation_steps": max(1, per_step // resolved.micro_batch_size),
        "num_train_epochs": resolved.n_epochs,
        "max_steps": -1 if resolved.max_steps is None else resolved.max_steps,
        "learning_rate": resolved.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(
            config.optim.schedule, config.optim.schedule
        ),
        "warmup_steps": config.optim.warmup_steps,
        "weight_decay": config.optim.weight_decay,
        "max_grad_norm": config.optim.max_grad_norm,
        "gradient_checkpointing": resolved.gradient_checkpointing,
        "bf16": resolved.compute == "bfloat16",
        "fp16": resolved.compute == "float16",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "remove_unused_columns": False,
        "report_to": "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
    }


def trainer_arguments(config: RunConfig, resolved: Resolved, output_dir: str) -> dict[str, Any]:
    """What GRPOConfig and RLOOConfig share."""
    rollout = resolved.rollout_size(config.rollout.group_size)
    per_step = rollout // resolved.minibatches // resolved.world_size
    return {
        **_every_trainers(config, resolved, output_dir, per_step),
        "generation_batch_size": rollout,
        "num_generations": config.rollout.group_size,
        "num_iterations": config.ppo.passes,
        "max_completion_length": resolved.max_completion_tokens,
        "temperature": resolved.temperature,
        "top_p": config.rollout.top_p,
        "top_k": 0,
        "epsilon": config.ppo.clip_low,
        "epsilon_high": config.ppo.clip_high,
        "disable_dropout": config.lora.dropout == 0.0,
        "shuffle_dataset": True,
        "ds3_gather_for_generation": config.distributed.gather_for_sampling,
    }


def sft_config(config: RunConfig, resolved: Resolved, output_dir: str) -> SFTConfig:
    """The rows come as token ids with labels, and none is cut: their lengths were checked."""
    per_step = resolved.rollout_size(1) // resolved.world_size
    return SFTConfig(
        **_every_trainers(config, resolved, output_dir, per_step),
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
        shuffle_dataset=False,
    )


def grpo_config(config: RunConfig, resolved: Resolved, output_dir: str) -> GRPOConfig:
    """PPO runs with beta 0: its KL is in the token rewards. GRPO has k3 in the loss, as in TRL."""
    beta = 0.0 if config.algorithm == "ppo" else config.ppo.kl_coef
    return GRPOConfig(
        **trainer_arguments(config, resolved, output_dir),
        beta=beta,
        loss_type="dapo",
        scale_rewards="group",
    )


def rloo_config(config: RunConfig, resolved: Resolved, output_dir: str) -> RLOOConfig:
    """The KL is in the reward; advantages are normalised, so that the scorer's scale does not matter."""
    arguments = trainer_arguments(config, resolved, output_dir)
    return RLOOConfig(**arguments, beta=config.ppo.kl_coef, normalize_advantages=True)


def critic_settings(config: RunConfig, resolved: Resolved) -> CriticSettings:
    """How the critic is trained on each rollout batch."""
    return CriticSettings(
        learning_rate=resolved.critic_learning_rate,
        passes=config.ppo.critic_passes,
        minibatches=resolved.minibatches,
        micro_batch_size=resolved.micro_batch_size,
        value_clip=config.ppo.value_clip,
        max_grad_norm=config.optim.max_grad_norm,
    )


def peft_config(config: RunConfig, targets: Sequence[str]) -> PeftLoraConfig:
    """`targets`: the names of the modules that get an adapter."""
    lora = config.lora
    return PeftLoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets),
        task_type="CAUSAL_LM",
        bias="none",
        revision=config.model.revision,
    )
