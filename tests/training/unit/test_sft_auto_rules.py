"""The auto rules of sft: batch, rate, length, validations, and the limit of a completion."""

import pytest

from rft_cli.training.auto import Chosen, LengthLimits, ReferenceLengths, SeenLengths, max_completion_tokens
from rft_cli.training.sft import auto_rules
from rft_cli.training.sft.auto_rules import Steps


@pytest.mark.parametrize(
    ("setting", "rows", "world", "value"),
    [
        ("auto", 1000, 1, 16),
        ("auto", 48, 1, 8),
        ("auto", 8, 1, 4),
        ("auto", 48, 3, 6),
        ("auto", 2, 2, 4),
        ("auto", 95, 1, 8),
        ("auto", 96, 1, 16),
        (32, 8, 1, 32),
    ],
)
def test_batch_size(setting, rows, world, value):
    assert auto_rules.batch_size(setting, rows, world).value == value


def test_a_pass_takes_every_row():
    assert [Steps(rows, 8).an_epoch for rows in (1, 8, 9, 48)] == [1, 1, 2, 6]


@pytest.mark.parametrize(
    ("epochs", "most", "steps"),
    [
        (3, None, 18),
        (3, 5, 5),
        (3, 50, 18),
        ("auto", 5, 5),
        ("auto", None, 60),
    ],
)
def test_length_of_48_rows_in_steps_of_8(epochs, most, steps):
    assert auto_rules.length(epochs, most, Steps(48, 8)).value == steps


def test_many_rows_are_passed_over_twice():
    assert auto_rules.length("auto", None, Steps(100_000, 16)).value == 2 * 6250


@pytest.mark.parametrize(
    ("rows", "epochs", "samples", "every"),
    [
        ("auto", "auto", 200, 15),  # few rows: 4 validations
        ("auto", "auto", 1, 6),  # cheap ones: 10
        (16, "auto", 200, 2),
        ("auto", 2, 200, 12),
    ],
)
def test_validations(rows, epochs, samples, every):
    assert auto_rules.validate_every(rows, epochs, samples, Steps(48, 8), 60).value == every


def test_rates_fall_with_size_and_are_within_the_fields_practice():
    rate = lambda millions, lora: auto_rules.learning_rate("auto", millions * 1_000_000, lora).value  # noqa: E731
    assert rate(1, False) == 1e-3
    assert rate(135, True) == 5e-4
    assert 1.9e-4 <= rate(8_000, True) <= 2.1e-4
    assert 0.9e-5 <= rate(7_000, False) <= 1.1e-5
    assert auto_rules.learning_rate(3e-4, 1, True).reason == ""


def limit_under_sft(context: int, seen: SeenLengths, most: int, longest: int) -> Chosen[int]:
    return max_completion_tokens("auto", LengthLimits(context, 100, ReferenceLengths(most, longest)), seen)


@pytest.mark.parametrize(
    ("ended", "total", "limit"),
    [
        ([], 16, 64),  # a model that ends nothing: what the references need
        ([300] * 3, 16, 64),  # hardly anything
        ([300] * 8, 16, 600),  # the base needs more, and is compared with
        ([20] * 16, 16, 64),
    ],
)
def test_limit(ended, total, limit):
    assert limit_under_sft(2048, SeenLengths(ended, total, 512), 20, 30).value == limit


def test_limit_has_room_for_the_longest_reference():
    assert limit_under_sft(2048, SeenLengths([], 16, 512), 50, 700).value == 700
    assert limit_under_sft(500, SeenLengths([], 16, 512), 300, 390).value == 400
