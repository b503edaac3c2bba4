"""The differences of sampler and trainer, and the weights that correct them, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from rft_cli.training.rollouts.engines import correction
from rft_cli.training.rollouts.engines.causes import Distances, bound_of, likely_cause

MASK = torch.tensor([[1, 1, 1], [1, 0, 0]])
OLD = torch.tensor([[-1.0, -2.0, -3.0], [-0.5, 7.0, 7.0]])
SAMPLED = [[-1.0, -2.0 - math.log(4), -3.0 + math.log(2)], [float("nan")]]


@pytest.fixture
def apart() -> torch.Tensor:
    return correction.differences(OLD, correction.padded_logps(SAMPLED, 3, OLD), MASK)


def test_differences_count_where_tokens_do_and_the_sampler_gave_a_number(apart: torch.Tensor) -> None:
    expected = torch.tensor([[0.0, math.log(4), -math.log(2)], [0.0, 0.0, 0.0]])
    assert torch.allclose(apart, expected, atol=1e-6)


def test_weights_are_the_ratio_up_to_the_cap(apart: torch.Tensor) -> None:
    found = correction.token_weights(apart, cap=2.0)
    # exp(log 4) = 4 is cut to 2, exp(-log 2) = 0.5 is not.
    assert torch.allclose(found, torch.tensor([[1.0, 2.0, 0.5], [1.0, 1.0, 1.0]]))


def test_the_weight_of_a_completion_is_its_tokens_product(apart: torch.Tensor) -> None:
    # 1 x 4 x 0.5 = 2
    assert torch.allclose(correction.completion_weights(apart, cap=3.0), torch.tensor([2.0, 1.0]))
    assert torch.allclose(correction.completion_weights(apart, cap=1.5), torch.tensor([1.5, 1.0]))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Distances(own=0.4, raw=0.01), "--logprobs-mode processed_logprobs"),
        (Distances(own=0.4, raw=0.5, reference=0.001), "samples from the base model"),
        (Distances(own=0.08, raw=0.3, reference=0.2), "--dtype float32"),
        (Distances(own=3.0, raw=2.9), "serves another model"),
    ],
)
def test_the_cause_is_what_explains_the_distance(found: Distances, words: str) -> None:
    assert words in likely_cause(found, "float32")


def test_the_bound_leaves_room_for_rounding_in_16_bits() -> None:
    assert [bound_of("auto", dtype) for dtype in ("float32", "bfloat16")] == [0.02, 0.15]
    assert bound_of(0.3, "bfloat16") == 0.3
    assert bound_of(None, "float32") is None
