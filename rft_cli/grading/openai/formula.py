"""`calculate_output`: a small formula language, parsed once, computed for each completion. Nothing is ever eval'd.

Numbers, graders, + - * / ^ and functions of numbers. `^` is right-associative and binds tighter than a sign before it:
-2^2 = -4. Not parsed by Python's `ast`: that fails on 20,000 terms and on graders named `pass` or `in`, and its errors
name no column of the formula.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from rft_cli.config.suggest import closest
from rft_cli.grading.openai.problems import SpecProblem

FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": lambda *numbers: min(numbers),
    "max": lambda *numbers: max(numbers),
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
"""`log` is the natural logarithm. `min` and `max` take several numbers, the others one."""
_OPERATORS: dict[str, tuple[int, Callable[..., float]]] = {
    "+": (1, operator.add),
    "-": (1, operator.sub),
    "*": (2, operator.mul),
    "/": (2, operator.truediv),
    "^": (3, math.pow),
}
"""Precedence and function. A sign binds tighter than * and /, and less tight than ^."""
_NAME = r"[^\W\d]\w*"
_TOKEN = re.compile(rf"(?P<number>(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)|(?P<name>{_NAME})|(?P<sign>[-+*/^(),])")
_MAX_DEPTH = 50


class FormulaError(Exception):
    """The formula has no finite value for these numbers; the text says why."""


_Step = float | str | tuple[Callable[..., float], int]
"""A number, the name of a grader, or a function that replaces so many numbers before it (reverse Polish notation)."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed formula. `names` are the sub-graders it uses, in order of first use."""

    text: str
    names: tuple[str, ...]
    _steps: tuple[_Step, ...]

    def value(self, values: Mapping[str, float]) -> float:
        """The formula's value; raises FormulaError where it is undefined, too large, or not a real number."""
        try:
            result = float(self._compute(values))
        except ZeroDivisionError:
            problem = "division by zero"
        except OverflowError:
            problem = "the result is too large"
        except ValueError:
            problem = "not defined (a logarithm or root of a number that has none, or 0 to a negative power)"
        else:
            if math.isfinite(result):
                return result
            problem = "the result is too large"
        given = ", ".join(f"{name} = {values[name]:g}" for name in self.names)
        raise FormulaError(f"{self.text}: {problem}{f' with {given}' if given else ''}")

    def _compute(self, values: Mapping[str, float]) -> float:
        stack: list[float] = []
        for step in self._steps:
            if isinstance(step, tuple):
                function, count = step
                stack[-count:] = [function(*stack[-count:])]
            else:
                stack.append(values[step] if isinstance(step, str) else step)
        return stack[0]


def is_name(text: str) -> bool:
    """Whether a formula can use a sub-grader of this name."""
    return re.fullmatch(_NAME, text) is not None and text not in FUNCTIONS


def parse_formula(text: str, known: Iterable[str] | None) -> Formula:
    """Parse `text`, in which the names in `known` stand for rewards (None: the names are not known).

    Raises SpecProblem with every unknown name or character, and the first syntax error.
    """
    tokens, problems = _tokenize(text)
    parser = _Parser(tokens, f"correct the formula {text!r}")
    # The syntax around an unknown character says nothing.
    if not problems:
        parser.parse()
    problems += _unknown_names(tokens, None if known is None else tuple(known))
    problems += parser.problems
    if problems:
        first, *more = sorted(problems, key=lambda problem: problem.column)
        raise SpecProblem(first.message, first.fix, more)
    names = dict.fromkeys(step for step in parser.steps if isinstance(step, str))
    return Formula(text, tuple(names), tuple(parser.steps))


class _Problem(SpecProblem):
    """A problem at a column; 0 stands for the whole formula."""

    def __init__(self, column: int, message: str, fix: str) -> None:
        super().__init__(f"column {column}: {message}" if column else message, fix)
        self.column = column


class _Token(NamedTuple):
    """A number, name, sign or the end, and the column at which it begins."""

    kind: str
    text: str
    column: int

    @property
    def shown(self) -> str:
        return f"'{self.text}'" if self.text else "the end"


def _tokenize(text: str) -> tuple[list[_Token], list[_Problem]]:
    """The tokens, an "end" last; and a problem for each character that belongs to none."""
    tokens: list[_Token] = []
    problems: dict[str, _Problem] = {}
    position, end = 0, len(text.rstrip())
    while position < end:
        character, column = text[position], position + 1
        match = _TOKEN.match(text, position)
        if match is not None:
            tokens.append(_Token(str(match.lastgroup), match[0], column))
        elif not character.isspace() and character not in problems:
            fix = f"use + - * / ^ ( ) , numbers, graders and {', '.join(FUNCTIONS)}"
            problems[character] = _Problem(column, f"{character!r} is not part of a formula", fix)
        position = column if match is None else match.end()
    return [*tokens, _Token("end", "", end + 1)], list(problems.values())


class _Parser:
    """Makes `steps` of tokens by precedence climbing; collects `problems`, of syntax errors the first."""

    def __init__(self, tokens: Sequence[_Token], fix: str) -> None:
        self.steps: list[_Step] = []
        self.problems: list[_Problem] = []
        self._tokens = tokens
        self._next = 0
        self._depth = 0
        self._fix = fix

    def parse(self) -> None:
        """Read all tokens."""
        try:
            self._expression(1)
            self._expect("")
        except _Problem as problem:
            self.problems.append(problem)

    def _expression(self, precedence: int) -> None:
        """An operand, and the operators of at least this precedence after it; iterative where they only follow on."""
        self._operand()
        while (found := _OPERATORS.get(self._peek().text)) is not None and found[0] >= precedence:
            own, function = found
            if self._take().text == "^":
                self._nested(own)
            else:
                self._expression(own + 1)
            self.steps.append((function, 2))

    def _operand(self) -> None:
        token = self._peek()
        if token.text in ("+", "-"):
            negative = False
            while self._peek().text in ("+", "-"):
                negative ^= self._take().text == "-"
            self._expression(_OPERATORS["^"][0])
            if negative:
                self.steps.append((operator.neg, 1))
        elif token.text == "(":
            self._take()
            self._nested(1)
            self._expect(")", token)
        elif token.kind == "number":
            self.steps.append(float(self._take().text))
            if math.isinf(float(token.text)):
                raise _Problem(token.column, f"'{token.text}' is too large a number", self._fix)
        elif token.kind == "name":
            self._take()
            if self._peek().text == "(":
                self._call(token)
            else:
                self.steps.append(token.text)
        else:
            raise _Problem(token.column, f"expected a number, a grader or '(', not {token.shown}", self._fix)

    def _call(self, name: _Token) -> None:
        opening = self._take()
        self._nested(1)
        count = 1
        while self._peek().text == ",":
            self._take()
            self._nested(1)
            count += 1
        self._expect(")", opening)
        if count > 1 and name.text in FUNCTIONS and name.text not in ("min", "max"):
            message, fix = (
                f"{name.text} takes one number (got {count})",
                f"write {name.text}(…) with one number",
            )
            self.problems.append(_Problem(name.column, message, fix))
        # An unknown function is reported with the unknown names.
        self.steps.append((FUNCTIONS.get(name.text, max), count))

    def _nested(self, precedence: int) -> None:
        self._depth += 1
        if self._depth >= _MAX_DEPTH:
            raise _Problem(0, f"nested deeper than {_MAX_DEPTH} levels", "split it into nested multi graders")
        self._expression(precedence)
        self._depth -= 1

    def _expect(self, text: str, opening: _Token | None = None) -> None:
        token = self._peek()
        if token.text == text:
            self._next += 1
        elif token.kind == "end" and opening is not None:
            raise _Problem(opening.column, "'(' is never closed", "add ')'")
        else:
            raise _Problem(token.column, f"{token.shown} is not expected here", self._fix)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]


def _unknown_names(tokens: Sequence[_Token], known: Sequence[str] | None) -> list[_Problem]:
    """A problem for each name that is neither a function nor, where the graders are known, a grader."""
    problems: dict[str, _Problem] = {}
    # The loader reports a name that no formula can use; its parts are not reported again.
    parts = {part for name in known or () if not is_name(name) for part in re.findall(_NAME, name)}
    for token, after in pairwise(tokens):
        name, is_call = token.text, after.text == "("
        names = FUNCTIONS if is_call else known
        if token.kind != "name" or names is None or name in names or (name in parts and not is_call):
            continue
        what = "function" if is_call else "grader"
        near = closest(name, FUNCTIONS if is_call else (*names, *FUNCTIONS))
        message = f"there is no {what} '{name}'"
        fix = f"did you mean '{near}'?" if near else f"the {what}s are: {', '.join(names)}"
        if name in FUNCTIONS:
            message, fix = f"{name} is a function", f"write {name}(…)"
        problems.setdefault(name, _Problem(token.column, message, fix))
    return list(problems.values())
