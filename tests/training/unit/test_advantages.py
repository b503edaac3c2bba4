"""Every expected number here was worked out by hand from the formulas in the docstrings."""

from __future__ import annotations

import math
from collections.abc import Callable
from threading import Barrier, Thread

import pytest
import torch
from torch import Tensor

from rft_cli.training.ppo import advantages as adv
from rft_cli.training.rollouts.statistics import Reduce, masked_moments

NAN = float("nan")


def t(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def same(actual: Tensor, expected: Tensor, within: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected.to(actual.dtype), atol=within, rtol=0.0)


# -- KL --------------------------------------------------------------------------------------------------------------


def test_k1_is_the_difference_of_log_probabilities() -> None:
    same(adv.kl_k1(t([-1.0, -2.5]), t([-1.5, -2.0])), t([0.5, -0.5]))


def test_k3_of_a_factor_of_two_both_ways() -> None:
    two = math.log(2.0)
    # pi = 2 pi_ref: 1/2 - 1 + ln 2 ; pi = pi_ref / 2: 2 - 1 - ln 2 ; equal: 0
    same(adv.kl_k3(t([two, -two, -3.0]), t([0.0, 0.0, -3.0])), t([0.1931472, 0.3068528, 0.0]))


def test_k3_of_an_absurd_token_stays_finite() -> None:
    values = adv.kl_k3(t([0.0, -500.0]), t([-500.0, 0.0]))
    assert values[0, 0].item() == pytest.approx(19.0)  # e^-20 - 1 + 20
    assert values[0, 1].item() == pytest.approx(485165174.4, rel=1e-4)  # e^20 - 1 - 20


# -- token rewards ---------------------------------------------------------------------------------------------------


def test_last_token_of_ragged_rows() -> None:
    mask = t([1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0])
    same(adv.last_token(mask), t([0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]))


def test_last_token_takes_whole_numbers_too() -> None:
    assert adv.last_token(torch.tensor([[1, 1, 0]])).tolist() == [[0, 1, 0]]


def test_reward_stands_on_the_last_token_and_kl_on_every_one() -> None:
    mask = t([1, 1, 1], [1, 0, 0])
    kl = t([0.1, -0.2, 0.3], [0.4, 9.0, NAN])
    same(
        adv.token_rewards(torch.tensor([2.0, 1.0]), kl, mask, kl_coef=0.5),
        t([-0.05, 0.1, 1.85], [0.8, 0.0, 0.0]),
    )


def test_a_row_without_a_grade_gets_no_token_reward() -> None:
    mask = t([1, 1], [0, 0])
    rewards = adv.token_rewards(torch.tensor([1.0, NAN]), t([0.0, 0.0], [0.3, 0.3]), mask, kl_coef=1.0)
    same(rewards, t([0.0, 1.0], [0.0, 0.0]))


# -- GAE -------------------------------------------------------------------------------------------------------------

REWARD = t([-0.1, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0])
VALUES = t([0.5, 0.4, 0.2], [0.3, 9.0, 9.0], [7.0, 7.0, 7.0])
MASK = t([1, 1, 1], [1, 0, 0], [0, 0, 0])
# row 1, gamma 1: deltas are -0.1 + 0.4 - 0.5 = -0.2, 0 + 0.2 - 0.4 = -0.2, 1 - 0.2 = 0.8; row 2: 1 - 0.3 = 0.7


@pytest.mark.parametrize(
    ("lam", "first_row"),
    [
        (1.0, [0.4, 0.6, 0.8]),  # the return less the value
        (0.95, [0.332, 0.56, 0.8]),  # -0.2 + 0.95 * 0.8 = 0.56; -0.2 + 0.95 * 0.56 = 0.332
        (0.0, [-0.2, -0.2, 0.8]),  # the deltas
    ],
)
def test_gae_by_hand(lam: float, first_row: list[float]) -> None:
    expected = t(first_row, [0.7, 0.0, 0.0], [0.0, 0.0, 0.0])
    same(adv.gae(REWARD, VALUES, MASK, gamma=1.0, lam=lam), expected)


def test_gae_with_a_discount() -> None:
    # deltas: -0.1 + 0.36 - 0.5 = -0.24, 0.18 - 0.4 = -0.22, 0.8; carried with 0.9 * 0.5 = 0.45
    same(adv.gae(REWARD[:1], VALUES[:1], MASK[:1], gamma=0.9, lam=0.5), t([-0.177, 0.14, 0.8]))


def test_whole_number_masks_give_the_same() -> None:
    whole = MASK.long()
    same(adv.gae(REWARD, VALUES, whole, 1.0, 0.95), adv.gae(REWARD, VALUES, MASK, 1.0, 0.95))


def test_returns_are_what_follows_each_token() -> None:
    done = adv.advantages_and_returns(REWARD, VALUES, MASK, gamma=1.0, lambda_policy=0.95, lambda_value=1.0)
    same(done.advantages, t([0.332, 0.56, 0.8], [0.7, 0.0, 0.0], [0.0, 0.0, 0.0]))
    same(done.returns, t([0.9, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]))


def test_returns_with_the_policys_own_lambda() -> None:
    done = adv.advantages_and_returns(REWARD, VALUES, MASK, gamma=1.0, lambda_policy=0.95, lambda_value=0.95)
    same(done.returns, t([0.832, 0.96, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]))


def test_nothing_behind_the_mask_reaches_a_result() -> None:
    mask = t([1, 1, 0], [0, 0, 0])
    kl = t([0.0, 0.0, NAN], [NAN, NAN, NAN])
    values = t([0.5, 0.5, NAN], [NAN, NAN, NAN])
    reward = adv.token_rewards(torch.tensor([1.0, NAN]), kl, mask, kl_coef=0.1)
    done = adv.advantages_and_returns(reward, values, mask, 1.0, 0.95, 1.0)
    same(reward, t([0.0, 1.0, 0.0], [0.0, 0.0, 0.0]))
    same(done.advantages, t([0.475, 0.5, 0.0], [0.0, 0.0, 0.0]))
    same(done.returns, t([1.0, 1.0, 0.0], [0.0, 0.0, 0.0]))
    assert adv.explained_variance(values, done.returns, mask).item() == 0.0
    assert masked_moments(values, mask).mean.item() == 0.5


# -- a group's baseline ----------------------------------------------------------------------------------------------


def test_a_rows_baseline_is_the_mean_of_the_others() -> None:
    x = torch.tensor([1.0, 0.0, 0.5, 7.0, NAN, 3.0])
    groups = torch.tensor([0, 0, 0, 1, 0, 2])
    counts = torch.tensor([True, True, True, True, False, True])
    same(adv.others_mean(x, groups, counts), torch.tensor([0.25, 0.75, 0.5, 0.0, 0.5, 0.0]))


def test_with_equal_values_the_group_alone_is_the_baseline() -> None:
    """RLOO: reward less the mean of the others', whatever constant the critic says."""
    reward, mask = t([0.0, 1.0], [0.0, 0.0], [0.5, 0.0]), t([1, 1], [1, 1], [1, 0])
    for value in (0.0, 0.4):
        values = mask * value
        plain = adv.gae(reward, values, mask, 1.0, 1.0)
        found = adv.group_centred(plain, reward, values, mask, torch.zeros(3), 1.0)
        same(found, t([0.75, 0.75], [-0.75, -0.75], [0.0, 0.0]))


def test_within_a_completion_the_critic_gives_the_credit() -> None:
    """The second token is where the reward was decided: the critic knew half of it at the first one."""
    reward, mask = t([0.0, 1.0], [0.0, 0.0]), torch.ones(2, 2)
    values = t([0.5, 0.9], [0.5, 0.1])
    plain = adv.gae(reward, values, mask, 1.0, 1.0)
    found = adv.group_centred(plain, reward, values, mask, torch.zeros(2), 1.0)
    same(found, t([1.0, 0.6], [-1.0, -0.6]))


# -- moments ---------------------------------------------------------------------------------------------------------


def test_moments_of_no_entries() -> None:
    moments = masked_moments(t([5.0]), torch.zeros(1, 1))
    assert moments.count.item() == 0.0
    assert moments.mean.isnan()  # there is no mean of nothing: a 0 would be logged as a figure
    assert moments.std.isnan()
    assert adv.explained_variance(t([1.0]), t([2.0]), torch.zeros(1, 1)).isnan()


def test_rows_with_an_entry_that_is_not_finite_are_found_where_it_counts() -> None:
    x = t([1.0, NAN], [NAN, 1.0], [1.0, float("inf")], [-float("inf"), 2.0], [NAN, NAN])
    mask = t([1, 0], [1, 1], [1, 1], [1, 0], [0, 0])
    assert adv.finite_rows(x, mask).tolist() == [True, False, False, False, True]


def test_moments_far_from_zero_keep_their_digits() -> None:
    moments = masked_moments(t([1_000_000.0, 1_000_001.0]), torch.ones(1, 2))
    assert moments.std.item() == pytest.approx(0.5, abs=1e-6)


class TwoProcesses:
    """Runs a function once for each of two inputs at the same time; `reduce` sums what both hand in."""

    def __init__(self) -> None:
        self._barrier = Barrier(2)
        self._slots: list[Tensor] = [torch.zeros(()), torch.zeros(())]

    def _reduce(self, rank: int) -> Reduce:
        def reduce(x: Tensor) -> Tensor:
            self._slots[rank] = x
            self._barrier.wait(10)
            total = self._slots[0] + self._slots[1]
            self._barrier.wait(10)
            return total

        return reduce

    def run(self, work: Callable[[int, Reduce], Tensor]) -> list[Tensor]:
        results: list[Tensor] = [torch.zeros(()), torch.zeros(())]

        def one(rank: int) -> None:
            results[rank] = work(rank, self._reduce(rank))

        threads = [Thread(target=one, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return results


PARTS = [t([1.0, 2.0, 50.0]), t([3.0, 6.0, 8.0], [70.0, 70.0, 70.0])]
PART_MASKS = [t([1, 1, 0]), t([1, 1, 1], [0, 0, 0])]  # counting: 1, 2 and 3, 6, 8: mean 4, variance 34 / 5


def test_moments_are_those_of_all_processes() -> None:
    def work(rank: int, reduce: Reduce) -> Tensor:
        moments = masked_moments(PARTS[rank], PART_MASKS[rank], reduce)
        return torch.stack([moments.mean, moments.std, moments.count.float()])

    for found in TwoProcesses().run(work):
        same(found, torch.tensor([4.0, math.sqrt(6.8), 5.0]))


# -- explained variance ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 3.0], 1.0),
        ([2.0, 2.0, 2.0], 0.0),
        ([3.0, 2.0, 1.0], -3.0),  # residuals -2, 0, 2: variance 8/3 over 2/3
        ([0.0, 1.0, 2.0], 1.0),  # an offset is not variance
    ],
)
def test_explained_variance(values: list[float], expected: float) -> None:
    returns, mask = t([1.0, 2.0, 3.0, 99.0]), t([1, 1, 1, 0])
    found = adv.explained_variance(t([*values, -5.0]), returns, mask)
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_explained_variance_of_equal_returns_is_nought() -> None:
    assert adv.explained_variance(t([0.1, 0.9]), t([0.5, 0.5]), torch.ones(1, 2)).item() == 0.0
