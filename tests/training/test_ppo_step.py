"""A few steps of the real PPO trainer on a tiny random model, watched from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rft_cli.types import Grade, GradeError, GradeRequest
from tests.training import toys

PROMPTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8", "w9 w9"]


def grade(request: GradeRequest) -> Grade:
    """The share of high words; completions that begin with w1 have no grade, those with w2 fail."""
    words = request.completion.split()
    if words and words[0] == "w1":
        return Grade("skipped")
    if words and words[0] == "w2":
        return Grade("failed", error=GradeError("raised", "no"))
    return Grade(
        "graded", sum(int(w[1:]) > 7 for w in words) / max(len(words), 1), {"length": float(len(words))}
    )


def trainer_for(folder: Path, critic: str = "mlp", lora: bool = False, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "ppo": {"kl_coef": 0.05, "critic_warmup": 0, "passes": 1},
        "rollout": {"group_size": 8},
    }
    settings["ppo"] |= changes.pop("ppo", {})
    settings |= changes.pop("settings", {})
    return toys.trainer_of(
        folder,
        toys.qwen3(head_std=0.1),
        toys.tokenizer_of(16),
        toys.FunctionGrader(changes.pop("grade", grade)),
        prompts=PROMPTS,
        settings=settings,
        critic=critic,
        lora=lora,
        **changes,
    )


def weights(module: Any) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("lora", [False, True])
def test_warm_up_moves_the_critic_and_not_the_policy(lora: bool, tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, lora=lora, ppo={"critic_warmup": 2}, n_epochs=2)
    policy = weights(trainer.model)
    own = weights(trainer.critic)
    trainer.train()
    assert trainer.state.global_step == 2
    assert changed(policy, weights(trainer.model)) == set()
    assert changed(own, weights(trainer.critic)) == set(own)
    assert all(line["grad_norm"] == 0.0 for line in trainer.state.log_history if "grad_norm" in line)


@pytest.mark.parametrize("lora", [False, True])
def test_after_warm_up_both_move_and_the_reference_stays(lora: bool, tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, lora=lora, ppo={"critic_warmup": 1}, n_epochs=2)
    policy = weights(trainer.model)
    reference = None if trainer.reference is None else weights(trainer.reference)
    trainer.train()
    moved = changed(policy, weights(trainer.model))
    assert moved
    if lora:
        assert all(".lora_" in n for n in moved)
    else:
        assert reference is not None
        assert changed(reference, weights(trainer.reference)) == set()
    first, second = (line for line in trainer.state.log_history if "kl" in line)
    assert abs(first["kl"]) < 1e-4
    assert abs(second["kl"]) < 1e-4  # sampled before the policy's first step
    for line in (first, second):
        assert all(torch.isfinite(torch.tensor(float(v))) for v in line.values() if isinstance(v, float))
        assert line["ratio"] == pytest.approx(1.0, abs=1e-4)
        assert line["clip_fraction"] == 0.0


def first_line(trainer: Any) -> dict[str, Any]:
    trainer.train()
    return next(line for line in trainer.state.log_history if "reward" in line)


def test_without_a_critic_there_is_no_figure_of_one_and_no_warm_up(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, critic="none", ppo={"critic_warmup": 2}, n_epochs=2)
    policy = weights(trainer.model)
    line = first_line(trainer)
    assert not {"explained_variance", "value_loss"} & set(line)
    assert changed(policy, weights(trainer.model))


@pytest.mark.parametrize("critic", ["none", "mlp"])
def test_micro_batches_do_not_change_the_step(critic: str, tmp_path: Path) -> None:
    whole = first_line(trainer_for(tmp_path / "a", critic, micro_batch_size=32))
    split = first_line(trainer_for(tmp_path / "b", critic, micro_batch_size=4))
    for name in (
        "reward",
        "kl",
        "return_mean",
        "return_std",
        "grad_norm",
        "policy_loss",
        *(["value_loss"] if critic == "mlp" else []),
        "loss",
    ):
        assert split[name] == pytest.approx(whole[name], rel=1e-4, abs=1e-6), name
    assert whole["grad_norm"] > 0.01


def test_a_rollout_batch_is_what_the_formulas_say(tmp_path: Path) -> None:
    """The trainer's own batch, worked out again from its grades, log-probabilities and the model as it was."""
    trainer = trainer_for(tmp_path, ppo={"lambda_policy": 0.9})
    before = toys.qwen3(head_std=0.1)  # the same weights; TRL's patched model can't be copied
    batches: list[dict[str, Tensor]] = []
    plain = trainer._generate_and_score_completions

    def watched(inputs: Any) -> Any:
        batches.append(plain(inputs))
        return batches[-1]

    trainer._generate_and_score_completions = watched
    fit, fitted = trainer.critic_optimizer.fit, list[tuple[Tensor, ...]]()
    trainer.critic_optimizer.fit = lambda *args: fitted.append(args) or fit(*args)
    trainer.train()
    (batch,) = batches
    rewards = trainer.reward.last.rewards()
    graded = [r is not None for r in rewards]
    assert True in graded
    assert False in graded
    lengths = batch["completion_mask"].sum(1)
    assert len(set(lengths.tolist())) > 1

    mask = batch["loss_mask"]
    assert torch.equal(mask, batch["completion_mask"] * torch.tensor(graded).long().unsqueeze(1))
    assert batch["num_items_in_batch"].item() == sum(
        n for n, g in zip(lengths.tolist(), graded, strict=True) if g
    )

    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        logits = before(input_ids=ids, attention_mask=attention).logits[:, -mask.size(1) - 1 : -1]
    logps = torch.log_softmax(logits, -1).gather(2, batch["completion_ids"].unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(batch["old_per_token_logps"] * mask, logps * mask, atol=1e-5, rtol=0.0)

    # The policy is the reference still, so a token's return is its row's reward, and so is the mean of returns.
    reward = torch.tensor([0.0 if r is None else r for r in rewards]).unsqueeze(1)
    mean = (reward * mask).sum() / mask.sum()
    values = torch.full_like(logps, float(mean)) * mask
    # delta is 0 but on the last token, where it is reward - mean: 0.9 ** (tokens left) of it comes back
    left = (lengths.unsqueeze(1) - 1 - torch.arange(mask.size(1))).clamp(min=0)
    advantage = (reward - mean) * 0.9**left
    # The prompt's other graded completions say by how much the value of the prompt is off.
    given = [r for r in rewards if r is not None]
    spread = torch.tensor(given).std(correction=0)
    for row, own in enumerate(graded):
        if own:
            others = [
                rewards[i] - mean
                for i in range(len(graded))
                if i != row and graded[i] and torch.equal(batch["prompt_ids"][i], batch["prompt_ids"][row])
            ]
            advantage[row] -= sum(others) / max(1, len(others))
    torch.testing.assert_close(batch["advantages"], advantage * mask / spread, atol=1e-4, rtol=1e-4)
    ((_, old_values, returns, _, tokens),) = fitted
    torch.testing.assert_close(returns * mask, reward * mask, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(old_values * mask, values, atol=1e-5, rtol=0.0)
    assert tokens.item() == mask.sum().item()


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("critic", ["none", "mlp"])
def test_a_rollout_batch_is_scored_once_by_the_policy_and_once_by_the_reference(
    critic: str, passes: int, tmp_path: Path
) -> None:
    trainer = trainer_for(tmp_path, critic, ppo={"passes": passes}, n_epochs=2)
    scored: list[tuple[Any, bool]] = []
    score = trainer._score

    def counted(model: Any, *args: Any, **kwargs: Any) -> Any:
        scored.append((model, torch.is_grad_enabled()))
        return score(model, *args, **kwargs)

    trainer._score = counted
    trainer.train()
    by_reference = [model is trainer.reference for model, learns in scored if not learns]
    assert trainer.rollouts_seen == 2
    assert by_reference[1:] == [False, True] * 2  # the very first is the first batch's check


def test_a_batch_without_any_grade_moves_nothing(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, grade=lambda _: Grade("skipped"), n_epochs=2)
    policy = weights(trainer.model)
    trainer.train()
    assert changed(policy, weights(trainer.model)) == set()
    assert not bool(trainer.critic.scale.seen)


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_the_other_algorithms_take_the_same_job(algorithm: str, tmp_path: Path) -> None:
    settings = {"algorithm": algorithm}
    trainer = trainer_for(tmp_path, settings=settings, ppo={"passes": 2}, n_epochs=2, minibatches=1)
    policy = weights(trainer.model)
    trainer.train()
    assert trainer.state.global_step == 4
    assert changed(policy, weights(trainer.model))
    rewards = [line["reward"] for line in trainer.state.log_history if "reward" in line]
    given = [s.grade.reward for s in trainer.reward_funcs[0].last.samples if s.grade.reward is not None]
    assert rewards[-1] == pytest.approx(sum(given) / len(given), abs=1e-5)
    kl = [line["kl"] for line in trainer.state.log_history if "kl" in line]
    assert abs(kl[0]) < 1e-6  # the reference is the model that the policy started from
    assert kl[-1] > 1e-5


def test_without_kl_there_is_no_reference_to_keep(tmp_path: Path) -> None:
    assert trainer_for(tmp_path, settings={"algorithm": "grpo"}, ppo={"kl_coef": 0.0}).ref_model is None


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "rloo"])
def test_a_scorer_of_0_to_100_trains_like_one_of_0_to_1(algorithm: str, tmp_path: Path) -> None:
    """The same seeds, rewards times 100: the same policy in the end, up to the rounding of float32."""

    def trained(folder: Path, scale: float) -> dict[str, Tensor]:
        def grade(request: GradeRequest) -> Grade:
            return toys.graded(scale * (len(request.completion) % 3) / 2)

        trainer = trainer_for(
            folder, settings={"algorithm": algorithm}, grade=grade, n_epochs=3, minibatches=1
        )
        trainer.train()
        return weights(trainer.model)

    small, large = trained(tmp_path / "a", 1.0), trained(tmp_path / "b", 100.0)
    for name, weight in small.items():
        torch.testing.assert_close(large[name], weight, rtol=1e-3, atol=5e-4)
