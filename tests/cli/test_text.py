"""Text for terminals: hostile model output, numbers, durations and sparklines."""

import pytest

from rft_cli.console.text import clean, duration, interval, number, one_line, sparkline
from rft_cli.types import Estimate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("größer 世界 🙂", "größer 世界 🙂"),
        ("\x1b[31mred\x07", "�[31mred�"),
        ("a\r\nb\rc\td", "a\nb\nc\td"),
        ("x\u202etxt.exe", "x�txt.exe"),
        ("a\u2028b", "a\nb"),
        ("half \ud83d pair", "half � pair"),
        ("\x9b2J", "�2J"),
    ],
)
def test_clean_leaves_nothing_that_steers_a_terminal(text, expected):
    assert clean(text) == expected


def test_one_line_joins_lines_and_cuts_either_end():
    assert one_line("a  b\n\n c", 20) == "a b ⏎ c"
    assert one_line("abcdefghij", 5) == "abcd…"
    assert one_line("abcdefghij", 5, keep_end=True) == "…ghij"
    assert one_line(" \n ", 5) == "(empty)"


@pytest.mark.parametrize(
    ("value", "digits", "sign", "expected"),
    [
        (0.4123, 3, False, "0.412"),
        (0.4123, 2, True, "+0.41"),
        (-0.5, 3, True, "-0.500"),
        (0.0, 3, False, "0.000"),
        (0.00001234, 3, False, "1.23e-05"),
        (123456.0, 3, False, "123,456"),
        (-1234.5, 3, True, "-1,234"),
        (12345678.0, 3, False, "1.23e+07"),
        (None, 3, False, "–"),
    ],
)
def test_numbers(value, digits, sign, expected):
    assert number(value, digits, sign=sign) == expected


def test_interval():
    assert interval(Estimate(0.41234, (0.381, 0.444), 9)) == "0.412 [0.38, 0.44]"
    assert interval(Estimate(0.5, (0.46, 0.54), 9), sign=True) == "+0.500 [+0.46, +0.54]"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-3, "0 s"), (42.4, "42 s"), (60, "1:00"), (185, "3:05"), (7385, "2:03:05")]
)
def test_duration(seconds, expected):
    assert duration(seconds) == expected


def test_sparkline_scales_and_averages_into_its_width():
    assert sparkline([], 5) == ""
    assert sparkline([1.0, 1.0], 5) == "▁▁  1.000"
    assert sparkline([0.0, 0.5, 1.0], 5) == "▁▅█  0.000 … 1.000"
    assert sparkline([0.0] * 50 + [1.0] * 50, 4) == "▁▁██  0.000 … 1.000"
