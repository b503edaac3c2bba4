"""`calculate_output`: a small formula language, parsed once, computed for each completion. Nothing is ever eval'd.

Numbers, graders, + - * / ^ and functions of numbers. `^` is right-associative and binds tighter than a sign before it:
-2^2 = -4. The shunting-yard algorithm parses it, not Python's `ast`: that fails on 20,000 terms and on graders named
`pass` or `in`, and its errors name no column of the formula.
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
_OPERATORS: dict[str, tuple[int, Callable[..., float], int]] = {
    "+": (1, operator.add, 2),
    "-": (1, operator.sub, 2),
    "*": (2, operator.mul, 2),
    "/": (2, operator.truediv, 2),
    "negate": (3, operator.neg, 1),
    "^": (4, math.pow, 2),
}
"""Precedence, function and number of operands."""
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
    parser = _Parser(f"correct the formula {text!r}")
    # The syntax around an unknown character says nothing.
    if not problems:
        try:
            parser.parse(tokens)
        except _Problem as problem:
            problems.append(problem)
    problems += parser.problems
    problems += _unknown_names(tokens, None if known is None else tuple(known))
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


@dataclass
class _Open:
    """An open parenthesis: the token, the function before it, and its arguments until now."""

    token: _Token
    function: _Token | None = None
    arguments: int = 1


class _Parser:
    """Makes `steps` of tokens. Operators wait until one of lower precedence comes."""

    def __init__(self, fix: str) -> None:
        self.steps: list[_Step] = []
        self.problems: list[_Problem] = []
        self._fix = fix
        self._waiting: list[str | _Open] = []

    def parse(self, tokens: Sequence[_Token]) -> None:
        """Read all tokens; raises _Problem at the first syntax error."""
        wants_operand = True
        for before, token in pairwise([tokens[-1], *tokens]):
            wants_operand = self._read_operand(token) if wants_operand else self._read_operator(token, before)

    def _read_operand(self, token: _Token) -> bool:
        """Read a token where an operand starts; gives whether the operand is still to come."""
        if token.text == "(":
            self._wait(_Open(token))
        elif token.text == "-":
            self._wait("negate")
        elif token.kind == "number":
            self.steps.append(float(token.text))
            if math.isinf(float(token.text)):
                raise _Problem(token.column, f"'{token.text}' is too large a number", self._fix)
        elif token.kind == "name":
            self.steps.append(token.text)
        elif token.text != "+":
            shown = _shown(token)
            raise _Problem(token.column, f"expected a number, a grader or '(', not {shown}", self._fix)
        return token.kind == "sign"

    def _read_operator(self, token: _Token, before: _Token) -> bool:
        """Read a token after an operand; gives whether another operand must follow."""
        if token.text == "(" and before.kind == "name":
            self.steps.pop()
            self._wait(_Open(token, before))
            return True
        if token.text in _OPERATORS:
            self._apply_waiting(_OPERATORS[token.text][0] + (token.text == "^"))
            self._wait(token.text)
            return True
        self._apply_waiting(0)
        opened = self._waiting[-1] if self._waiting else None
        if isinstance(opened, _Open) and token.kind == "end":
            raise _Problem(opened.token.column, "'(' is never closed", "add ')'")
        if isinstance(opened, _Open) and token.text == ")":
            self._close(opened)
        elif isinstance(opened, _Open) and opened.function and token.text == ",":
            opened.arguments += 1
        elif token.kind != "end":
            raise _Problem(token.column, f"{_shown(token)} is not expected here", self._fix)
        return token.text == ","

    def _wait(self, entry: str | _Open) -> None:
        # Two signs cancel out, so that no number of them is too deep.
        if entry == "negate" and self._waiting[-1:] == ["negate"]:
            self._waiting.pop()
            return
        self._waiting.append(entry)
        if sum(isinstance(each, _Open) or each == "^" for each in self._waiting) >= _MAX_DEPTH:
            raise _Problem(0, f"nested deeper than {_MAX_DEPTH} levels", "split it into nested multi graders")

    def _apply_waiting(self, precedence: int) -> None:
        """Apply the operators of at least this precedence that wait behind the last open parenthesis."""
        while self._waiting and isinstance(entry := self._waiting[-1], str):
            entry_precedence, function, count = _OPERATORS[entry]
            if entry_precedence < precedence:
                break
            self.steps.append((function, count))
            self._waiting.pop()

    def _close(self, opened: _Open) -> None:
        self._waiting.pop()
        # An unknown function is reported with the unknown names.
        if opened.function is None or (name := opened.function.text) not in FUNCTIONS:
            return
        if opened.arguments > 1 and name not in ("min", "max"):
            message, fix = (
                f"{name} takes one number (got {opened.arguments})",
                f"write {name}(…) with one number",
            )
            self.problems.append(_Problem(opened.function.column, message, fix))
        self.steps.append((FUNCTIONS[name], opened.arguments))


def _shown(token: _Token) -> str:
    return "the end" if token.kind == "end" else f"'{token.text}'"


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
