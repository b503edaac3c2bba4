"""The return scale, the critics, and how one learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rft_cli.training.ppo.critic import Critic, CriticOptimizer, CriticSettings, MlpCritic, ReturnScale
from rft_cli.training.rollouts.statistics import Moments, identity


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


# -- critics and their training --------------------------------------------------------------------------------------


def problem(rows: int = 8, hidden: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """States, returns that are linear in them, and a ragged mask with one row that has no grade."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(rows, 4, hidden, generator=generator)
    returns = 2.0 + states @ torch.linspace(-1.0, 1.0, hidden)
    mask = torch.ones(rows, 4)
    mask[1, 2:] = 0
    mask[2] = 0
    returns[2] = 99.0
    return states, returns, mask


def settings(
    passes: int, micro_batch_size: int, minibatches: int, value_clip: float | None, max_grad_norm: float = 1.0
) -> CriticSettings:
    return CriticSettings(0.02, passes, minibatches, micro_batch_size, value_clip, max_grad_norm)


def train(critic: MlpCritic, chosen: CriticSettings) -> Tensor:
    states, returns, mask = problem()
    seen = torch.where(mask.bool(), returns, torch.zeros_like(returns))
    critic.update_scale(moments(2.0, float(seen[mask.bool()].std())))
    optimizer = CriticOptimizer(critic, chosen, identity)
    old = critic.scale.to_raw(critic(states)).detach() * mask
    torch.manual_seed(0)
    return optimizer.fit(states, old, returns, mask, mask.sum())


def mlp(width: int = 32) -> MlpCritic:
    torch.manual_seed(0)
    return MlpCritic(8, width)


def test_fit_learns() -> None:
    once = train(mlp(), settings(1, 4, 2, None))
    long = train(mlp(), settings(150, 4, 2, None))
    assert once.item() > 0.2  # half the variance of normalised returns is 0.5
    assert long.item() < 0.02


@pytest.mark.parametrize("critic", [Critic(), MlpCritic(8)])
def test_a_new_critic_predicts_the_mean_return(critic: Critic) -> None:
    states, _, _ = problem()
    critic.update_scale(moments(0.7, 0.2))
    values = critic.scale.to_raw(critic(states))
    assert values.shape == (8, 4)
    torch.testing.assert_close(values, torch.full((8, 4), 0.7))


def test_value_clip_holds_a_pass_back() -> None:
    free, held = mlp(), mlp()
    train(free, settings(5, 8, 1, None, 10.0))
    train(held, settings(5, 8, 1, 0.05, 10.0))
    states, _, mask = problem()
    moved = [float((critic(states).detach() * mask).abs().sum()) for critic in (held, free)]
    assert moved[0] < 0.5 * moved[1]  # all values were 0 before


def test_micro_batches_do_not_change_a_step() -> None:
    whole, split = mlp(), mlp()
    train(whole, settings(3, 8, 1, 0.2))
    train(split, settings(3, 1, 1, 0.2))
    torch.testing.assert_close(whole.head.weight, split.head.weight, atol=1e-5, rtol=1e-4)


def test_gradients_are_reduced_then_clipped_then_dropped() -> None:
    critic = MlpCritic(2, width=2)
    optimizer = CriticOptimizer(critic, settings(1, 8, 1, None), all_reduce=lambda grad: grad / 2)
    optimizer.inner = torch.optim.SGD(critic.parameters(), lr=0.1)  # plain steps show the gradient
    critic.head.weight.grad = torch.tensor([[6.0, 0.0]])
    critic.head.bias.grad = torch.tensor([8.0])
    optimizer.step(torch.tensor(0.0))  # (3, 0, 4) has norm 5: scaled to (0.6, 0, 0.8)
    torch.testing.assert_close(critic.head.weight.data, torch.tensor([[-0.06, 0.0]]))
    torch.testing.assert_close(critic.head.bias.data, torch.tensor([-0.08]))
    assert critic.head.weight.grad is None


def test_a_process_without_graded_rows_still_takes_part() -> None:
    calls: list[Tensor] = []

    def all_reduce(grad: Tensor) -> Tensor:
        calls.append(grad)
        return grad

    critic = MlpCritic(2, width=2)
    CriticOptimizer(critic, settings(1, 8, 1, None), all_reduce).step(torch.tensor(0.0))
    assert [c.shape for c in calls] == [p.shape for p in critic.parameters()]
