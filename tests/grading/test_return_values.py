from __future__ import annotations

import decimal
import fractions
import sys
from typing import Any

import numpy as np
import pytest

from rft_cli.grading.worker.return_values import BadValue, Returned, read_batch, read_return


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


class Named(str):
    pass


class Stubborn:
    shape = ()

    def item(self) -> float:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "reward"),
    [
        (0.25, 0.25),
        (0, 0.0),
        (-3, -3.0),
        (True, 1.0),
        (False, 0.0),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(2), 2.0),
        (np.bool_(True), 1.0),
        (np.array(0.75), 0.75),
        (fractions.Fraction(1, 4), 0.25),
        (decimal.Decimal("0.125"), 0.125),
        ({"reward": 1}, 1.0),
        (None, None),
        ({"reward": None, "why": "no reference"}, None),
    ],
)
def test_rewards(value: Any, reward: float | None) -> None:
    reading = read_return(value)
    assert reading == Returned(reward, {})
    assert type(reading.reward) in (float, type(None))


def test_components_are_the_finite_numbers_of_a_dict() -> None:
    value = {
        "reward": 0.5,
        "valid": True,
        "length": 12,
        Named("share"): 0.25,
        "why": "because",
        "parts": [1, 2],
        "nan": float("nan"),
        7: 1.0,
    }
    reading = read_return(value)
    assert reading == Returned(0.5, {"valid": 1.0, "length": 12.0, "share": 0.25})
    assert {type(name) for name in reading.components} == {str}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "returned nan, which is not finite"),
        (float("inf"), "returned inf, which is not finite"),
        (np.float32("-inf"), "returned -inf, which is not finite"),
        (10**400, "returned an integer that is too large for a float"),
        ("0.5", "returned '0.5' (str), which is no number: convert it with float(…)"),
        ([0.5], "returned [0.5] (list), which is no number"),
        ((0.5, 1), "returned (0.5, 1) (tuple), which is no number"),
        (b"1", "returned b'1' (bytes), which is no number"),
        (np.array([0.5]), "returned array([0.5]) (ndarray), which is no number"),
        (Unprintable(), "returned <Unprintable instance at "),
        (Stubborn(), "returned <"),
        (1j, "returned a complex that is no real number: "),
        ({}, "returned a dict without the key 'reward' (it has no names)"),
        ({"points": 1, "b": 2}, "returned a dict without the key 'reward' (it has 'points', 'b')"),
        ({"reward": "high"}, "reward: returned 'high' (str), which is no number: convert it with float(…)"),
        ({"reward": float("inf")}, "reward: returned inf, which is not finite"),
    ],
)
def test_refused(value: Any, message: str) -> None:
    with pytest.raises(BadValue) as caught:
        read_return(value)
    assert str(caught.value).startswith(message)


def test_a_value_with_too_many_digits_to_print() -> None:
    digits = 10 ** (sys.get_int_max_str_digits() + 1)
    with pytest.raises(BadValue, match="too large for a float"):
        read_return(digits)
    with pytest.raises(BadValue, match=r"returned (a list|\[.*), which is no number"):
        read_return([digits])


def test_batches() -> None:
    assert read_batch([1, None], 2) == [1, None]
    assert read_batch((1, 0.5), 2) == [1, 0.5]
    assert read_batch(np.array([0.5, 1.0]), 2) == [0.5, 1.0]
    with pytest.raises(BadValue, match="returned 1 values for 2 completions"):
        read_batch([1], 2)
    with pytest.raises(BadValue, match=r"returned 0.5 \(float\), but a batch scorer returns a list"):
        read_batch(0.5, 1)
