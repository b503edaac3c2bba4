"""The private parts of TRL and transformers that rft overrides or calls, as they were when it was written.

They may move in any release. A failure here says which one did: read the named function in the new version, carry the
change over to the file of rft that uses it, then write the new shape down here.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from transformers import Trainer
from trl import GRPOTrainer, RLOOTrainer, SFTTrainer
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.utils import RepeatSampler, add_fused_lm_head, shuffle_sequence_dict, split_tensor_dict

from rft_cli.training.ppo.trainer import PPOTrainer


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def source(function: Callable[..., Any]) -> str:
    return textwrap.dedent(inspect.getsource(inspect.unwrap(function)))


def attributes_set(cls: type) -> set[str]:
    """Names that a class's __init__ assigns on self."""
    tree = ast.parse(source(cls.__init__))  # type: ignore[misc]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {t.attr for t in targets if isinstance(t, ast.Attribute)}
    return found


EXACT: list[tuple[str, Callable[..., Any], list[str], str]] = [
    (
        "SFTTrainer.compute_loss",
        SFTTrainer.compute_loss,
        ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
        "sft/trainer.py rests on its token mean over accumulated passes and processes",
    ),
    (
        "GRPOTrainer._generate_and_score_completions",
        GRPOTrainer._generate_and_score_completions,
        ["self", "inputs"],
        "ppo/trainer.py overrides it",
    ),
    (
        "GRPOTrainer._generate_single_turn",
        GRPOTrainer._generate_single_turn,
        ["self", "prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"],
        "rollout_trainer.py listens to it",
    ),
    (
        "GRPOTrainer._compute_loss",
        GRPOTrainer._compute_loss,
        ["self", "model", "inputs"],
        "ppo/trainer.py overrides it",
    ),
    (
        "GRPOTrainer._calculate_rewards",
        GRPOTrainer._calculate_rewards,
        ["self", "inputs", "prompts", "completions", "completion_ids_list"],
        "rewards.py is called by it",
    ),
    (
        "GRPOTrainer._prepare_inputs",
        GRPOTrainer._prepare_inputs,
        ["self", "generation_batch"],
        "it shuffles and buffers what ppo/trainer.py adds to a rollout batch",
    ),
    (
        "RepeatSampler.__init__",
        RepeatSampler.__init__,
        ["self", "data_source", "mini_repeat_count", "batch_size", "repeat_count", "shuffle", "seed"],
        "resume.py subclasses it",
    ),
    ("RepeatSampler.__iter__", RepeatSampler.__iter__, ["self"], "resume.py overrides it"),
    ("Trainer._save_checkpoint", Trainer._save_checkpoint, ["self", "model", "trial"], "saving.py calls it"),
    ("Trainer._get_output_dir", Trainer._get_output_dir, ["self", "trial"], "saving.py overrides it"),
    ("Trainer._clip_grad_norm", Trainer._clip_grad_norm, ["self", "model"], "divergence.py overrides it"),
    ("GRPOTrainer.log", GRPOTrainer.log, ["self", "logs", "start_time"], "divergence.py overrides it"),
    ("RLOOTrainer.log", RLOOTrainer.log, ["self", "logs", "start_time"], "divergence.py overrides it"),
    ("Trainer._save_rng_state", Trainer._save_rng_state, ["self", "output_dir"], "resume.py overrides it"),
    ("Trainer._load_rng_state", Trainer._load_rng_state, ["self", "checkpoint"], "resume.py overrides it"),
    (
        "Trainer._load_optimizer_and_scheduler",
        Trainer._load_optimizer_and_scheduler,
        ["self", "checkpoint"],
        "resume.py overrides it",
    ),
]


@pytest.mark.parametrize(("name", "function", "expected", "why"), EXACT, ids=[e[0] for e in EXACT])
def test_parameters_are_the_same(
    name: str, function: Callable[..., Any], expected: list[str], why: str
) -> None:
    assert parameters(function) == expected, f"{name} changed its parameters: {why}"


FIRST: list[tuple[str, Callable[..., Any], list[str]]] = [
    (
        "GRPOTrainer._get_per_token_logps_and_entropies",
        GRPOTrainer._get_per_token_logps_and_entropies,
        ["self", "model", "input_ids", "attention_mask", "logits_to_keep"],
    ),
    ("unwrap_model_for_generation", unwrap_model_for_generation, ["model", "accelerator"]),
    ("add_fused_lm_head", add_fused_lm_head, ["model", "temperature"]),
    (
        "Trainer._load_from_checkpoint",
        Trainer._load_from_checkpoint,
        ["self", "resume_from_checkpoint", "model"],
    ),
    ("Trainer._get_train_sampler", Trainer._get_train_sampler, ["self", "train_dataset"]),
    ("GRPOTrainer._get_train_sampler", GRPOTrainer._get_train_sampler, ["self", "dataset"]),
    ("RLOOTrainer._get_train_sampler", RLOOTrainer._get_train_sampler, ["self", "dataset"]),
]


@pytest.mark.parametrize(("name", "function", "expected"), FIRST, ids=[f[0] for f in FIRST])
def test_the_parameters_we_give_are_there(
    name: str, function: Callable[..., Any], expected: list[str]
) -> None:
    found = parameters(function)
    assert found[: len(expected)] == expected, f"{name} moved its leading parameters"
    rest = list(inspect.signature(function).parameters.values())[len(expected) :]
    assert all(p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in rest), (
        f"{name} has a new parameter without a default"
    )


@pytest.mark.parametrize("trainer", [GRPOTrainer, RLOOTrainer])
@pytest.mark.parametrize(
    "attribute", ["_buffered_inputs", "_step", "_metrics", "eos_token_ids", "beta", "ref_model"]
)
def test_attributes_we_read_or_write(trainer: type, attribute: str) -> None:
    assert attribute in attributes_set(trainer), (
        f"{trainer.__name__} no longer sets self.{attribute} in __init__"
    )


def test_metrics_are_lists_by_mode_and_name() -> None:
    assert 'self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}' in source(
        GRPOTrainer.__init__
    ), "GRPOTrainer._metrics has another shape: PPOTrainer._note and resume.py write into it"


@pytest.mark.parametrize(
    "key",
    ["prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", "num_items_in_batch"],
)
def test_a_rollout_batch_has_the_keys_we_read(key: str) -> None:
    assert f'"{key}": {key}' in source(GRPOTrainer._generate_and_score_completions), (
        f"{key} left the rollout batch"
    )


def test_old_log_probabilities_come_under_their_name() -> None:
    text = source(GRPOTrainer._generate_and_score_completions)
    assert 'output["old_per_token_logps"] = old_per_token_logps' in text


def test_log_probabilities_come_first_and_entropies_second() -> None:
    text = source(GRPOTrainer._get_per_token_logps_and_entropies)
    assert "return logps, entropies, aux_loss" in text, "PPOTrainer answers with three results in this order"


def test_rewards_of_all_processes_are_gathered_and_ours_are_local() -> None:
    """PPOTrainer takes its rewards from GraderReward.last, in this process's order; TRL's own return is gathered."""
    assert "rewards_per_func = gather(rewards_per_func)" in source(GRPOTrainer._calculate_rewards)


def test_rollouts_are_shuffled_and_split_row_by_row_and_scalars_pass() -> None:
    batch = {
        "advantages": torch.arange(8.0).reshape(4, 2),
        "loss_mask": torch.arange(8).reshape(4, 2),
        "num_items_in_batch": torch.tensor(6.0),
    }
    mixed = shuffle_sequence_dict(batch)
    assert torch.equal(mixed["advantages"], mixed["loss_mask"].float()), "columns are shuffled apart"
    halves = split_tensor_dict(mixed, 2)
    assert [tuple(h["loss_mask"].shape) for h in halves] == [(2, 2), (2, 2)]
    assert [h["num_items_in_batch"].item() for h in halves] == [6.0, 6.0]


def test_the_loss_is_not_divided_by_accumulation_again() -> None:
    """PPOTrainer normalises by itself; transformers would divide once more unless TRL tells it not to."""
    assert GRPOTrainer.loss_is_scaled_for_ga is True
    assert PPOTrainer.loss_is_scaled_for_ga is True


@pytest.mark.parametrize("trainer", [GRPOTrainer, RLOOTrainer])
def test_the_reference_is_read_at_every_rollout(trainer: Any) -> None:
    """build.py sets `beta` and `ref_model` on the finished trainer."""
    text = source(trainer._generate_and_score_completions)
    assert "if self.beta != 0.0:" in text
    assert "if self.ref_model is not None:" in text


def test_a_step_is_clipped_then_announced_then_taken() -> None:
    """GuardedTrainer decides in `_clip_grad_norm` whether the step is skipped, before the optimizer steps."""
    text = source(Trainer._run_epoch)
    calls = ["self._clip_grad_norm(model)", "on_pre_optimizer_step(", "self.optimizer.step()"]
    assert all(text.count(call) == 1 for call in calls)
    assert sorted(calls, key=text.index) == calls
    assert "if self.args.max_grad_norm > 0:" in text


def test_compute_loss_calls_our_hook() -> None:
    assert "return self._compute_loss(model, inputs)" in source(GRPOTrainer.compute_loss)


def test_epoch_sampler_can_take_over_the_generator() -> None:
    assert "generator=self.generator" in source(RepeatSampler.__iter__)
    assert {"generator", "seed", "shuffle"} <= attributes_set(RepeatSampler)


@pytest.mark.parametrize("layer", [BaseTunerLayer, AuxiliaryTrainingWrapper])
def test_adapters_are_switched_off_by_one_field(layer: type) -> None:
    assert "_disable_adapters" in source(layer), f"{layer.__name__}: backbone.adapter_off writes that field"


def test_old_log_probabilities_are_asked_for_at_rollouts_alone() -> None:
    """PPOTrainer answers `_get_per_token_logps_and_entropies` with the rollout's own scores."""
    asked = "self._get_per_token_logps_and_entropies("
    callers = [
        name
        for name, function in vars(GRPOTrainer).items()
        if callable(function) and asked in source(function)
    ]
    assert callers == ["_generate_and_score_completions", "_compute_loss"]


def test_the_fused_head_takes_labels_that_are_shifted_already() -> None:
    assert "hidden_states = backbone_outputs.last_hidden_state\n" in source(add_fused_lm_head)
    assert "labels = shift_labels\n" in source(add_fused_lm_head)


def test_our_overrides_match() -> None:
    for name in ("_generate_and_score_completions", "_compute_loss"):
        assert parameters(getattr(PPOTrainer, name)) == parameters(getattr(GRPOTrainer, name))


def test_sft_trainer_keeps_the_counters_that_a_checkpoint_holds() -> None:
    """sft/trainer.py saves and restores the tokens, and gives a router's configuration back."""
    assert {"_total_train_tokens", "aux_loss_enabled", "router_aux_loss_coef"} <= attributes_set(SFTTrainer)
