"""PPO's two losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rft_cli.training.ppo.losses import masked_sum, policy_terms, value_terms

LOW, HIGH = 0.2, 0.28


def log(ratio: float) -> Tensor:
    return torch.tensor([[math.log(ratio)]])


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped", "slope"),
    [
        (1.0, 2.0, -2.0, 0.0, -2.0),
        (1.1, 1.0, -1.1, 0.0, -1.1),  # inside the range
        (1.27, 1.0, -1.27, 0.0, -1.27),  # the range is wider above
        (1.5, 1.0, -1.28, 1.0, 0.0),  # good and likelier already: cut, no gradient
        (0.5, 1.0, -0.5, 0.0, -0.5),  # good but rarer: never cut
        (0.5, -1.0, 0.8, 1.0, 0.0),  # bad and rarer already: cut
        (1.5, -1.0, 1.5, 0.0, 1.5),  # bad but likelier: never cut
        (1.5, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_policy_terms(ratio: float, advantage: float, loss: float, clipped: float, slope: float) -> None:
    logps = log(ratio).requires_grad_(True)
    terms = policy_terms(logps, torch.zeros(1, 1), torch.tensor([[advantage]]), LOW, HIGH)
    assert terms.loss.item() == pytest.approx(loss, abs=1e-6)
    assert terms.ratio.item() == pytest.approx(ratio, abs=1e-6)
    assert terms.clipped.item() == clipped
    terms.loss.sum().backward()
    assert logps.grad is not None
    assert logps.grad.item() == pytest.approx(slope, abs=1e-6)


def test_ratio_compares_with_the_old_policy() -> None:
    terms = policy_terms(torch.tensor([[-1.0]]), torch.tensor([[-1.1]]), torch.tensor([[1.0]]), LOW, HIGH)
    assert terms.ratio.item() == pytest.approx(1.1051709)


def test_an_absurd_ratio_stays_finite() -> None:
    terms = policy_terms(torch.tensor([[300.0]]), torch.zeros(1, 1), torch.tensor([[-1.0]]), LOW, HIGH)
    assert terms.loss.item() == pytest.approx(math.exp(20.0), rel=1e-5)


@pytest.mark.parametrize(
    ("value", "old", "target", "clip", "loss"),
    [
        (0.9, 0.0, 0.5, None, 0.08),  # half of 0.4 squared
        (0.1, 0.0, 0.5, 0.2, 0.08),  # moved less than the clip
        (0.5, 0.0, 0.5, 0.2, 0.045),  # right, but moved too far: the clipped 0.2 is 0.3 off
        (0.9, 0.0, 0.0, 0.2, 0.405),  # the plain error is the larger one
        (-0.5, 0.0, -0.5, 0.2, 0.045),
    ],
)
def test_value_terms(value: float, old: float, target: float, clip: float | None, loss: float) -> None:
    found = value_terms(torch.tensor([[value]]), torch.tensor([[old]]), torch.tensor([[target]]), clip)
    assert found.item() == pytest.approx(loss, abs=1e-6)


def test_a_value_that_moved_too_far_gets_no_gradient() -> None:
    value = torch.tensor([[0.4]], requires_grad=True)
    value_terms(value, torch.zeros(1, 1), torch.ones(1, 1), 0.2).sum().backward()
    assert value.grad is not None
    assert value.grad.item() == 0.0


def test_masked_sum_does_not_read_behind_the_mask() -> None:
    x = torch.tensor([[1.0, 2.0, float("nan")], [float("inf"), 4.0, 8.0]], requires_grad=True)
    mask = torch.tensor([[1, 1, 0], [0, 1, 0]])
    total = masked_sum(x, mask)
    total.backward()
    assert total.item() == 7.0
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
