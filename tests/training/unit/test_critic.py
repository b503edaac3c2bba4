"""Return scale, the critics with features of their own, and where in the sequence a value is read."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from rft_cli.training.ppo.critic import (
    Critic,
    CriticBatch,
    CriticOptimizer,
    FitSettings,
    MlpCritic,
    ReturnScale,
    SharedCritic,
    before_each_token,
    fit,
)
from rft_cli.training.rollouts.moments import Moments, identity
from tests.training import toys


def moments(mean: float, std: float, count: float = 10.0) -> Moments:
    return Moments(torch.tensor(mean), torch.tensor(std), torch.tensor(count))


def head_of(weight: list[float], bias: float) -> torch.nn.Linear:
    head = torch.nn.Linear(len(weight), 1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([weight]))
        head.bias.fill_(bias)
    return head


# -- the return scale ------------------------------------------------------------------------------------------------


def test_the_first_batch_sets_the_scale_and_leaves_the_head() -> None:
    scale, head = ReturnScale(), head_of([0.0, 0.0], 0.0)
    scale.update(moments(3.0, 2.0), head)
    assert (scale.mean.item(), scale.std.item(), bool(scale.seen)) == (3.0, 2.0, True)
    assert scale.to_raw(head(torch.ones(1, 2))).item() == 3.0  # a zero head says the mean return
    assert scale.to_normalised(torch.tensor(7.0)).item() == 2.0
    assert scale.to_raw(torch.tensor(2.0)).item() == 7.0


def test_later_batches_move_it_with_momentum() -> None:
    scale, head = ReturnScale(momentum=0.9), head_of([0.0], 0.0)
    scale.update(moments(1.0, 2.0), head)
    scale.update(moments(11.0, 4.0), head)
    assert scale.mean.item() == pytest.approx(2.0)  # 0.9 * 1 + 0.1 * 11
    assert scale.std.item() == pytest.approx(2.2)  # 0.9 * 2 + 0.1 * 4


def test_predictions_in_raw_units_stay_when_the_scale_moves() -> None:
    scale, head = ReturnScale(), head_of([0.5, -1.5], 0.25)
    scale.update(moments(1.0, 2.0), head)
    states = torch.tensor([[1.0, 2.0], [-3.0, 0.5], [0.0, 0.0]])
    before = scale.to_raw(head(states)).detach()
    scale.update(moments(-40.0, 0.5), head)
    assert scale.mean.item() != 1.0
    torch.testing.assert_close(scale.to_raw(head(states)), before, atol=1e-5, rtol=0.0)


def test_a_batch_without_grades_changes_nothing() -> None:
    scale, head = ReturnScale(), head_of([1.0], 1.0)
    scale.update(moments(5.0, 5.0, count=0.0), head)
    assert (scale.mean.item(), scale.std.item(), bool(scale.seen)) == (0.0, 1.0, False)


def test_equal_returns_do_not_make_the_scale_vanish() -> None:
    scale, head = ReturnScale(), head_of([0.0], 0.0)
    scale.update(moments(2.0, 0.0), head)
    assert scale.std.item() == pytest.approx(2e-3)  # a thousandth of the mean
    scale = ReturnScale()
    scale.update(moments(0.0, 0.0), head)
    assert scale.std.item() == pytest.approx(1e-4)


# -- which hidden state a value is read from -------------------------------------------------------------------------


def test_values_are_read_one_position_before_their_tokens() -> None:
    hidden = torch.arange(6.0).reshape(1, 6, 1)  # two prompt and four completion positions
    assert before_each_token(hidden, 4).flatten().tolist() == [1.0, 2.0, 3.0, 4.0]


@torch.no_grad()
def test_a_value_knows_the_tokens_before_and_not_its_own() -> None:
    model = toys.qwen3(layers=2)
    ids = torch.tensor([[0, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7]])
    attention = torch.tensor([[0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]])
    prompt, length = 3, 4

    def states(tokens: Tensor) -> Tensor:
        return before_each_token(model.model(tokens, attention_mask=attention).last_hidden_state, length)

    plain = states(ids)
    logits = model(input_ids=ids, attention_mask=attention).logits[:, prompt - 1 : -1]
    torch.testing.assert_close(model.lm_head(plain), logits)  # the states from which the tokens are predicted
    for token in range(length):
        changed = ids.clone()
        changed[:, prompt + token] = 15
        moved = (states(changed) - plain).abs().amax(dim=-1) > 1e-6
        assert moved.tolist() == [[position > token for position in range(length)]] * 2


# -- critics and their training --------------------------------------------------------------------------------------


def batch_of(features: Tensor, length: int) -> CriticBatch:
    rows, width = features.shape[:2]
    return CriticBatch(torch.zeros(rows, width), torch.ones(rows, width), length, features)


def problem(rows: int = 8, hidden: int = 8) -> tuple[CriticBatch, Tensor, Tensor]:
    """Features, returns that a linear head can predict, and a ragged mask with one row that has no grade."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, 4, hidden, generator=generator)
    returns = 2.0 + features @ torch.linspace(-1.0, 1.0, hidden)
    mask = torch.ones(rows, 4)
    mask[1, 2:] = 0
    mask[2] = 0
    returns[2] = 99.0
    return batch_of(features, 4), returns, mask


def train(critic: Critic, settings: FitSettings, rate: float = 0.02) -> Tensor:
    batch, returns, mask = problem()
    seen = torch.where(mask.bool(), returns, torch.zeros_like(returns))
    critic.scale.update(moments(2.0, float(seen[mask.bool()].std())), critic.head)
    optimizer = CriticOptimizer(critic, rate, settings.max_grad_norm, identity)
    old = critic.scale.to_raw(critic(batch)).detach() * mask
    return fit(critic, optimizer, batch, old, returns, mask, mask.sum(), settings)


@pytest.mark.parametrize("critic", [SharedCritic(8), MlpCritic(8, 32)], ids=["head", "mlp"])
def test_fit_learns(critic: Critic) -> None:
    once = train(copy.deepcopy(critic), FitSettings(1, 4, 2, None, 1.0))
    long = train(critic, FitSettings(150, 4, 2, None, 1.0))
    assert once.item() > 0.2  # half the variance of normalised returns is 0.5
    assert long.item() < 0.02


def test_a_new_critic_says_the_mean_return() -> None:
    batch, _, _ = problem()
    for critic in (SharedCritic(8), MlpCritic(8)):
        critic.scale.update(moments(0.7, 0.2), critic.head)
        values = critic.scale.to_raw(critic(batch))
        assert values.shape == (8, 4)
        torch.testing.assert_close(values, torch.full((8, 4), 0.7))


def test_value_clip_holds_a_pass_back() -> None:
    free, held = SharedCritic(8), SharedCritic(8)
    train(free, FitSettings(100, 8, 1, None, 10.0))
    train(held, FitSettings(100, 8, 1, 0.05, 10.0))
    assert held.head.weight.norm() < 0.5 * free.head.weight.norm()


def test_micro_batches_do_not_change_a_step() -> None:
    whole, split = SharedCritic(8), SharedCritic(8)
    train(whole, FitSettings(3, 8, 1, 0.2, 1.0))
    train(split, FitSettings(3, 1, 1, 0.2, 1.0))
    torch.testing.assert_close(whole.head.weight, split.head.weight, atol=1e-6, rtol=1e-5)


def test_gradients_are_reduced_then_clipped_then_forgotten() -> None:
    critic = SharedCritic(2)
    optimizer = CriticOptimizer(critic, 0.1, max_grad_norm=1.0, all_reduce=lambda grad: grad / 2)
    optimizer.inner = torch.optim.SGD(optimizer.parameters, lr=0.1)  # plain steps show the gradient
    critic.head.weight.grad = torch.tensor([[6.0, 0.0]])
    critic.head.bias.grad = torch.tensor([8.0])
    optimizer.step()  # (3, 0, 4) has norm 5: scaled to (0.6, 0, 0.8)
    torch.testing.assert_close(critic.head.weight.data, torch.tensor([[-0.06, 0.0]]))
    torch.testing.assert_close(critic.head.bias.data, torch.tensor([-0.08]))
    assert critic.head.weight.grad is None


def test_a_process_without_graded_rows_still_takes_part() -> None:
    calls: list[Tensor] = []

    def all_reduce(grad: Tensor) -> Tensor:
        calls.append(grad)
        return grad

    critic = SharedCritic(2)
    CriticOptimizer(critic, 0.1, 1.0, all_reduce).step()
    assert [tuple(c.shape) for c in calls] == [(1, 2), (1,)]


def test_rows_of_a_batch_keep_together() -> None:
    batch = CriticBatch(
        torch.arange(6).reshape(3, 2), torch.ones(3, 2), 1, torch.arange(3.0).reshape(3, 1, 1)
    )
    picked = batch.rows(torch.tensor([2, 0]))
    assert picked.input_ids.tolist() == [[4, 5], [0, 1]]
    assert picked.features is not None
    assert picked.features.flatten().tolist() == [2.0, 0.0]
    assert (
        CriticBatch(batch.input_ids, batch.attention_mask, 1, None).rows(torch.tensor([0])).features is None
    )
