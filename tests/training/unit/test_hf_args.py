"""Configuration and auto choices as TRL and PEFT get them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rft_cli.config import RunConfig
from rft_cli.training.hf_args import (
    Resolved,
    critic_settings,
    grpo_config,
    peft_config,
    rloo_config,
    trainer_arguments,
)
from rft_cli.training.ppo.critic import CriticSettings

RESOLVED = Resolved(
    lora=False,
    learning_rate=1e-4,
    critic="mlp",
    critic_learning_rate=1e-3,
    n_epochs=3,
    max_steps=None,
    prompts_per_batch=16,
    max_completion_tokens=40,
    micro_batch_size=16,
    gradient_checkpointing=False,
    validate_every=1,
    critic_warmup=2,
    world_size=1,
    minibatches=2,
)


def config(**sections: Any) -> RunConfig:
    return RunConfig.model_validate(sections)


def test_batches_add_up(tmp_path: Path) -> None:
    """16 prompts x 8 completions are 2 steps of 64, each of 4 passes of 16."""
    arguments = grpo_config(config(), RESOLVED, str(tmp_path))
    assert arguments.generation_batch_size == 128
    assert arguments.num_generations == 8
    assert arguments.per_device_train_batch_size == 16
    assert arguments.gradient_accumulation_steps == 4
    assert arguments.steps_per_generation == 8
    assert arguments.num_iterations == 2


def test_processes_share_a_step() -> None:
    arguments = trainer_arguments(config(), replace(RESOLVED, world_size=2), "out")
    assert arguments["generation_batch_size"] == 128
    assert arguments["gradient_accumulation_steps"] == 2


def test_settings_arrive(tmp_path: Path) -> None:
    chosen = config(
        seed=7,
        rollout={"top_p": 0.8, "group_size": 4},
        optim={"warmup_steps": 5, "weight_decay": 0.01, "max_grad_norm": 0.3},
        ppo={"clip_low": 0.1, "clip_high": 0.4, "passes": 3},
    )
    resolved = replace(RESOLVED, n_epochs=5, max_steps=90, micro_batch_size=8, temperature=0.9)
    arguments = grpo_config(chosen, resolved, str(tmp_path))
    expected = {
        "seed": 7, "temperature": 0.9, "top_p": 0.8, "top_k": 0, "num_generations": 4, "warmup_steps": 5,
        "weight_decay": 0.01, "max_grad_norm": 0.3, "epsilon": 0.1, "epsilon_high": 0.4, "num_iterations": 3,
        "num_train_epochs": 5, "max_steps": 90, "learning_rate": 1e-4, "max_completion_length": 40,
        "disable_dropout": True, "gradient_checkpointing": False, "loss_type": "dapo", "scale_rewards": "group",
        "output_dir": str(tmp_path),
    }  # fmt: skip
    assert {name: getattr(arguments, name) for name in expected} == expected
    assert arguments.report_to == []
    assert arguments.save_strategy == arguments.eval_strategy == "no"


@pytest.mark.parametrize(
    ("ours", "theirs"), [("constant", "constant_with_warmup"), ("linear", "linear"), ("cosine", "cosine")]
)
def test_schedules(ours: str, theirs: str, tmp_path: Path) -> None:
    arguments = grpo_config(config(optim={"schedule": ours}), RESOLVED, str(tmp_path))
    assert arguments.lr_scheduler_type == theirs


def test_kl_stands_in_one_place(tmp_path: Path) -> None:
    ppo = config(ppo={"kl_coef": 0.03})
    grpo = config(algorithm="grpo", ppo={"kl_coef": 0.03})
    assert grpo_config(ppo, RESOLVED, str(tmp_path)).beta == 0.0  # in the token rewards
    assert grpo_config(grpo, RESOLVED, str(tmp_path)).beta == 0.03
    assert rloo_config(config(algorithm="rloo", ppo={"kl_coef": 0.03}), RESOLVED, str(tmp_path)).beta == 0.03


def test_dropout_in_the_adapter_is_not_switched_off(tmp_path: Path) -> None:
    assert grpo_config(config(lora={"dropout": 0.1}), RESOLVED, str(tmp_path)).disable_dropout is False


def test_critic_settings() -> None:
    chosen = config(ppo={"value_clip": None, "critic_passes": 4}, optim={"max_grad_norm": 0.5})
    assert critic_settings(chosen, RESOLVED) == CriticSettings(
        learning_rate=1e-3,
        passes=4,
        minibatches=2,
        micro_batch_size=RESOLVED.micro_batch_size,
        value_clip=None,
        max_grad_norm=0.5,
    )


def test_lora() -> None:
    made = peft_config(config(lora={"r": 4, "alpha": 8.0, "dropout": 0.1}), ["q_proj"])
    assert (made.r, made.lora_alpha, made.lora_dropout) == (4, 8.0, 0.1)
    assert made.target_modules == {"q_proj"}
    assert (made.task_type, made.bias) == ("CAUSAL_LM", "none")
