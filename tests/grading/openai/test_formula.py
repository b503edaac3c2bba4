"""Formulas that can't be read, with their columns, and values that do not exist. What they give: test_parity.py."""

from __future__ import annotations

import pytest

from rft_cli.grading.openai.formula import FormulaError, is_name, parse_formula
from rft_cli.grading.openai.problems import SpecProblem


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        (
            "",
            "column 1: expected a number, a grader or '(', not the end",
            "correct the formula ''",
        ),
        (
            "a +",
            "column 4: expected a number, a grader or '(', not the end",
            "correct the formula 'a +'",
        ),
        ("a b", "column 3: 'b' is not expected here", "correct the formula 'a b'"),
        ("(a + b", "column 1: '(' is never closed", "add ')'"),
        ("a + b)", "column 6: ')' is not expected here", "correct the formula 'a + b)'"),
        ("min(a b)", "column 7: 'b' is not expected here", "correct the formula 'min(a b)'"),
        (
            "min()",
            "column 5: expected a number, a grader or '(', not ')'",
            "correct the formula 'min()'",
        ),
        (
            "a ** b",
            "column 4: expected a number, a grader or '(', not '*'",
            "correct the formula 'a ** b'",
        ),
        ("a % b", "column 3: '%' is not part of a formula", None),
        ("a.real", "column 2: '.' is not part of a formula", None),
        ("a + recal", "column 5: there is no grader 'recal'", "did you mean 'recall'?"),
        ("zzzz", "column 1: there is no grader 'zzzz'", "the graders are: a, b, recall"),
        ("  mim(a, b)", "column 3: there is no function 'mim'", "did you mean 'min'?"),
        ("qqqq(a)", "column 1: there is no function 'qqqq'", None),
        ("a + min", "column 5: min is a function", "write min(…)"),
        ("sqrt(a, b)", "column 1: sqrt takes one number (got 2)", "write sqrt(…) with one number"),
        ("1e999", "column 1: '1e999' is too large a number", "correct the formula '1e999'"),
        ("(" * 60 + "a" + ")" * 60, "nested deeper than 50 levels", None),
        ("a" + "^a" * 60, "nested deeper than 50 levels", None),
        ("__import__('os')", "column 1: there is no function '__import__'", None),
    ],
)
def test_refused(text: str, message: str, fix: str | None) -> None:
    with pytest.raises(SpecProblem) as caught:
        parse_formula(text, ("a", "b", "recall"))
    assert caught.value.message == message
    assert fix is None or caught.value.fix == fix


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "recal + x * x / mim(a, y) - sqrt(a, b) + / q",
            [
                "column 1: there is no grader 'recal'",
                "column 9: there is no grader 'x'",
                "column 17: there is no function 'mim'",
                "column 24: there is no grader 'y'",
                "column 29: sqrt takes one number (got 2)",
                "column 42: expected a number, a grader or '(', not '/'",
                "column 44: there is no grader 'q'",
            ],
        ),
        (
            "a % b % x == 1 $ (",
            [
                "column 3: '%' is not part of a formula",
                "column 9: there is no grader 'x'",
                "column 11: '=' is not part of a formula",
                "column 16: '$' is not part of a formula",
            ],
        ),
        ("a + min + (b", ["column 5: min is a function", "column 11: '(' is never closed"]),
    ],
)
def test_all_that_is_wrong_comes_at_once(text: str, messages: list[str]) -> None:
    with pytest.raises(SpecProblem) as caught:
        parse_formula(text, ("a", "b", "recall"))
    assert [problem.message for problem in (caught.value, *caught.value.more)] == messages


def test_names_are_not_looked_for_where_nobody_knows_them() -> None:
    assert parse_formula("x + y", None).names == ("x", "y")
    with pytest.raises(SpecProblem, match="is not expected here"):
        parse_formula("x y", None)


def test_a_name_that_no_formula_can_use_is_not_reported_again() -> None:
    assert parse_formula("a-b + log + c", ("a-b", "log", "c")).names == ("a", "b", "log", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / a", "1 / a: division by zero with a = 0"),
        ("log(a)", "not defined"),
        ("log(a - 1)", "not defined"),
        ("sqrt(a - 1)", "not defined"),
        ("(-8)^(1/3)", "(-8)^(1/3): not defined"),
        ("a^-1", "not defined"),
        ("exp(1000)", "exp(1000): the result is too large"),
        ("10^400", "too large"),
        ("1e308 * 10", "too large"),
        ("1e308 * 10 - 1e308 * 10", "too large"),
        ("floor(1e308 * 10)", "too large"),
    ],
)
def test_no_value(text: str, message: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse_formula(text, ("a",)).value({"a": 0.0})
    assert message in str(caught.value)


def test_a_long_formula_is_not_a_deep_one() -> None:
    assert parse_formula(" + ".join(["a"] * 20_000), ("a",)).value({"a": 0.5}) == 10_000.0
    assert parse_formula("-" * 9_999 + "a", ("a",)).value({"a": 0.5}) == -0.5


def test_names() -> None:
    assert parse_formula("b + a*b", ("a", "b")).names == ("b", "a")
    assert [is_name(text) for text in ("a", "_a1", "größe", "1a", "a-b", "a b", "", "min")] == [True] * 3 + [
        False
    ] * 5
