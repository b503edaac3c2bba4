"""The spread of a job's rewards."""

from __future__ import annotations

import torch

from rft_cli.training.rollouts.statistics import RewardSpread, masked_moments


def spread_of(*batches: list[float]) -> float:
    spread = RewardSpread()
    for batch in batches:
        x = torch.tensor(batch)
        spread.update(masked_moments(x, ~x.isnan()))
    return spread.value


def test_batches_add_up_to_one_standard_deviation() -> None:
    assert abs(spread_of([0.0, 0.0, 1.0], [1.0, float("nan")]) - 0.5) < 1e-6
    assert abs(spread_of([0.0, 0.0, 100.0], [100.0]) - 50.0) < 1e-4


def test_a_solved_batch_does_not_shrink_it_to_nothing() -> None:
    assert spread_of([0.0, 1.0], [1.0, 1.0]) > 0.4


def test_without_two_rewards_that_differ_it_is_one() -> None:
    assert spread_of() == spread_of([float("nan")]) == spread_of([3.0, 3.0]) == 1.0


def test_it_goes_on_from_a_checkpoint() -> None:
    spread, again = RewardSpread(), RewardSpread()
    spread.update(masked_moments(torch.tensor([0.0, 4.0]), torch.ones(2)))
    again.load_state_dict(spread.state_dict())
    assert again.value == spread.value == 2.0
