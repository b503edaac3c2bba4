"""Builds the trainer with its model, critic and reference from the configuration."""

from __future__ import annotations

import copy
from typing import Any

import torch
from accelerate import init_empty_weights
from datasets import Dataset as HfDataset
from peft import LoraConfig as PeftLoraConfig
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase
from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

from rft_cli.config import RunConfig
from rft_cli.config.schema import ModelConfig
from rft_cli.runs.model_source import find_model
from rft_cli.training import hf_args
from rft_cli.training.distributed.sharding import is_partitioned, placed_reference
from rft_cli.training.hf_args import Resolved
from rft_cli.training.lora import lora_targets
from rft_cli.training.model_checks import FIX
from rft_cli.training.models import count_parameters, load_config, load_policy, not_loadable
from rft_cli.training.ppo.critic import Critic, MlpCritic
from rft_cli.training.rollouts.rewards import GraderReward
from rft_cli.training.trainers import GRPOJob, PPOJob, RLOOJob, SFTJob


def parameters_of(config: ModelConfig) -> int:
    """The model's parameter count, from its configuration alone: no weights are read."""
    return count_parameters(empty_model(config))


def empty_model(config: ModelConfig) -> Any:
    """The model of this configuration without weights; UsageError if it can't be made."""
    try:
        with init_empty_weights():
            model = AutoModelForCausalLM.from_config(
                load_config(config), trust_remote_code=config.trust_remote_code
            )
    except Exception as error:
        raise not_loadable(f"model {config.path!r}", error, FIX) from error
    model.tie_weights()
    return model


def build_sft(
    config: RunConfig,
    resolved: Resolved,
    tokenizer: PreTrainedTokenizerBase,
    model: Any,
    output_dir: str,
    rows: HfDataset,
) -> Any:
    """The trainer of `algorithm: sft`; `rows` hold token ids and labels."""
    if config.lora.dropout == 0.0:
        disable_dropout_in_model(model)
    return SFTJob(
        model=model,
        args=hf_args.sft_config(config, resolved, output_dir),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=_adapter(config, resolved, model),
    )


def _adapter(config: RunConfig, resolved: Resolved, model: Any) -> PeftLoraConfig | None:
    return (
        hf_args.peft_config(config, lora_targets(model, config.lora.target_modules))
        if resolved.lora
        else None
    )


def build_trainer(
    config: RunConfig,
    resolved: Resolved,
    tokenizer: PreTrainedTokenizerBase,
    model: Any,
    output_dir: str,
    reward: GraderReward,
    rows: HfDataset,
) -> Any:
    """The trainer of an algorithm with rollouts, its model on the device, ready for `train()`."""
    common: dict[str, Any] = {"model": model, "train_dataset": rows, "processing_class": tokenizer}
    if resolved.lora:
        common["peft_config"] = _adapter(config, resolved, model)
    needed = config.algorithm == "ppo" or config.ppo.kl_coef > 0
    reference = (
        frozen_copy(model, resolved.temperature, config.model) if needed and not resolved.lora else None
    )
    if config.algorithm == "ppo":
        trainer: Any = PPOJob(
            args=hf_args.grpo_config(config, resolved, output_dir),
            settings=config.ppo,
            warmup=resolved.critic_warmup,
            critic=build_critic(config, resolved, model),
            fitting=hf_args.critic_settings(config, resolved),
            reference=reference,
            reward=reward,
            **common,
        )
    elif config.algorithm == "rloo":
        trainer = _of_trl(
            RLOOJob, hf_args.rloo_config(config, resolved, output_dir), reference, reward, common
        )
        trainer.in_spreads = config.ppo.kl_unit == "spread"
    else:
        trainer = _of_trl(
            GRPOJob, hf_args.grpo_config(config, resolved, output_dir), reference, reward, common
        )
    trainer.ahead = config.rollout.ahead
    return trainer


def _of_trl(
    job: type[GRPOJob] | type[RLOOJob],
    args: Any,
    reference: Any,
    reward: GraderReward,
    common: dict[str, Any],
) -> Any:
    if reference is None:
        trainer: Any = job(args=args, reward_funcs=[reward], **common)
    else:
        # TRL would load the reference again from the model's path: another model, where an adapter was merged into it
        # or a revision was asked for.
        beta, args.beta = args.beta, 0.0
        trainer = job(args=args, reward_funcs=[reward], **common)
        trainer.beta = args.beta = beta
        trainer.ref_model = placed_reference(reference, trainer.accelerator)
    # The balance of a router is not part of the reward.
    trainer.aux_loss_enabled = False
    return trainer


def frozen_copy(model: Any, temperature: float, config: ModelConfig) -> nn.Module:
    """The reference of a fully fine-tuned policy, which scores tokens as the policy does."""
    if is_partitioned(model):
        # A copy would lose what ZeRO-3 knows of each parameter: it is loaded once more, partitioned too.
        reference: Any = load_policy(find_model(config.path, config.revision), config, torch.float32)
    else:
        reference = copy.deepcopy(model)
    reference.eval().requires_grad_(False)
    add_fused_lm_head(reference, temperature=temperature)
    return reference


def build_critic(config: RunConfig, resolved: Resolved, policy: Any) -> Critic:
    """The critic that `ppo.critic` names; its first weights depend on the seed alone."""
    if resolved.critic == "none":
        return Critic()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return MlpCritic(int(policy.config.get_text_config().hidden_size))
