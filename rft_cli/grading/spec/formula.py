"""`calculate_output`: a small formula language, parsed once, computed for each completion. Nothing is ever eval'd.

sum     := product (("+" | "-") product)*
product := sign (("*" | "/") sign)*
sign    := ("-" | "+") sign | power
power   := atom ["^" sign]                      right-associative, binds tighter than a sign before it: -2^2 = -4
atom    := number | name | function "(" sum ("," sum)* ")" | "(" sum ")"
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rft_cli.config.suggest import closest
from rft_cli.grading.spec.problems import SpecProblem

Values = Mapping[str, float]
_Node = Callable[[Values], float]

_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
"""`log` is the natural logarithm."""
_VARIADIC = ("min", "max")
FUNCTIONS = tuple(_FUNCTIONS)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<sign>[-+*/^(),]))"
)
_NAME = re.compile(r"[^\W\d]\w*")
_MAX_DEPTH = 50


class FormulaError(Exception):
    """The formula has no finite value for these numbers; the text says why."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed formula. `names` are the sub-graders it uses, in order of first use."""

    text: str
    names: tuple[str, ...]
    _compute: _Node

    def value(self, values: Values) -> float:
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


def is_name(text: str) -> bool:
    """Whether a sub-grader of this name can be used in a formula."""
    return _NAME.fullmatch(text) is not None and text not in _FUNCTIONS


def parse_formula(text: str, known: Iterable[str] | None) -> Formula:
    """Parse `text`, in which the names in `known` stand for rewards (None: nobody knows which names do).

    Raises SpecProblem, which has all that is wrong: each unknown name, and the first place where it can't be read.
    """
    return _Parser(text, None if known is None else tuple(known)).formula()


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


class _Parser:
    """Recursive descent; each method returns a function that computes its part."""

    def __init__(self, text: str, known: tuple[str, ...] | None) -> None:
        self.text = text
        self.known = known
        self.problems: list[tuple[int, SpecProblem]] = []
        self.tokens = list(self._tokens())
        self.next = 0
        self.depth = 0
        self.stopped_at = 0
        self.names: list[str] = []

    def formula(self) -> Formula:
        readable = not self.problems  # where strange characters stand, what is around them makes no sense
        self._check_names()
        if readable:
            try:
                compute = self.sum()
                token = self.peek()
                if token.kind != "end":
                    raise self.problem(token, "is not expected here")
            except SpecProblem as problem:
                self.problems.append((self.stopped_at, problem))
        if self.problems:
            first, *more = (problem for _, problem in sorted(self.problems, key=lambda pair: pair[0]))
            raise SpecProblem(first.message, first.fix, more)
        return Formula(self.text, tuple(self.names), compute)

    def _check_names(self) -> None:
        """Every name that stands for nothing, once."""
        told: set[str] = set()
        for token, after in itertools.pairwise(self.tokens):
            if token.kind != "name" or token.text in told:
                continue
            problem = self._no_function(token) if after.text == "(" else self._no_grader(token)
            if problem is not None:
                told.add(token.text)
                self.problems.append((token.column, problem))

    def _no_function(self, token: _Token) -> SpecProblem | None:
        if token.text in _FUNCTIONS:
            return None
        near = closest(token.text, FUNCTIONS)
        fix = f"did you mean '{near}'?" if near else f"the functions are: {', '.join(FUNCTIONS)}"
        return SpecProblem(f"column {token.column}: there is no function '{token.text}'", fix)

    def _no_grader(self, token: _Token) -> SpecProblem | None:
        if self.known is None or token.text in self.known:
            return None
        # A name that no formula can hold is told where it stands, and not again for its parts.
        if any(token.text in _NAME.findall(name) for name in self.known if not is_name(name)):
            return None
        if token.text in _FUNCTIONS:
            return SpecProblem(f"column {token.column}: {token.text} is a function", f"write {token.text}(…)")
        near = closest(token.text, (*self.known, *FUNCTIONS))
        fix = f"did you mean '{near}'?" if near else f"the graders are: {', '.join(self.known)}"
        return SpecProblem(f"column {token.column}: there is no grader '{token.text}'", fix)

    def sum(self) -> _Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise SpecProblem(f"nested deeper than {_MAX_DEPTH} levels", "split it into nested multi graders")
        terms = self.chain(self.product, "+", "-")
        self.depth -= 1
        return _sum(terms) if len(terms) > 1 else terms[0][1]

    def product(self) -> _Node:
        factors = self.chain(self.signed, "*", "/")
        return _product(factors) if len(factors) > 1 else factors[0][1]

    def chain(self, part: Callable[[], _Node], *signs: str) -> list[tuple[str, _Node]]:
        """Parts with the sign before each; kept flat, so that a long formula is no deep one."""
        parts = [(signs[0], part())]
        while (token := self.take(*signs)) is not None:
            parts.append((token.text, part()))
        return parts

    def signed(self) -> _Node:
        negative = False
        while (token := self.take("+", "-")) is not None:
            negative ^= token.text == "-"
        inner = self.power()
        return (lambda values: -inner(values)) if negative else inner

    def power(self) -> _Node:
        base = self.atom()
        if self.take("^") is None:
            return base
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise SpecProblem(f"nested deeper than {_MAX_DEPTH} levels", "split it into nested multi graders")
        exponent = self.signed()
        self.depth -= 1
        return lambda values: math.pow(base(values), exponent(values))

    def atom(self) -> _Node:
        token = self.peek()
        self.next += 1
        if token.kind == "number":
            number = float(token.text)
            if math.isinf(number):
                raise self.problem(token, "is too large a number")
            return lambda values: number
        if token.kind == "name":
            return self.call(token) if self.peek().text == "(" else self.variable(token)
        if token.text == "(":
            node = self.sum()
            self.expect(")", token)
            return node
        raise self.problem(token, "stands where a number, a grader or '(' is expected")

    def variable(self, token: _Token) -> _Node:
        name = token.text
        if name not in self.names:
            self.names.append(name)
        return lambda values: values[name]

    def call(self, token: _Token) -> _Node:
        function = _FUNCTIONS.get(token.text, max)  # an unknown one was told already
        opening = self.peek()
        self.next += 1
        arguments = [self.sum()]
        while self.take(",") is not None:
            arguments.append(self.sum())
        self.expect(")", opening)
        if len(arguments) > 1 and token.text in _FUNCTIONS and token.text not in _VARIADIC:
            problem = SpecProblem(
                f"column {token.column}: {token.text} takes one number (got {len(arguments)})",
                f"write {token.text}(…) with one number",
            )
            self.problems.append((token.column, problem))
        if token.text in _VARIADIC:
            return lambda values: function([argument(values) for argument in arguments])
        return lambda values: function(arguments[0](values))

    def expect(self, text: str, opening: _Token) -> None:
        if self.take(text) is None:
            token = self.peek()
            if token.kind == "end":
                self.stopped_at = opening.column
                raise SpecProblem(f"column {opening.column}: '(' is never closed", "add ')'")
            raise self.problem(token, "is not expected here")

    def take(self, *texts: str) -> _Token | None:
        token = self.peek()
        if token.kind != "sign" or token.text not in texts:
            return None
        self.next += 1
        return token

    def peek(self) -> _Token:
        return self.tokens[self.next]

    def problem(self, token: _Token, what: str) -> SpecProblem:
        self.stopped_at = token.column
        shown = "the end" if token.kind == "end" else f"'{token.text}'"
        return SpecProblem(f"column {token.column}: {shown} {what}", f"correct the formula {self.text!r}")

    def _tokens(self) -> Iterable[_Token]:
        """The tokens; each character that belongs to none is a problem, told once."""
        strange: set[str] = set()
        position, end = 0, len(self.text.rstrip())
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is not None:
                kind = str(match.lastgroup)
                yield _Token(kind, match[kind], match.start(kind) + 1)
                position = match.end()
                continue
            while self.text[position].isspace():
                position += 1
            character = self.text[position]
            position += 1
            if character not in strange:
                strange.add(character)
                message = f"column {position}: {character!r} is not part of a formula"
                fix = f"use + - * / ^ ( ) , numbers, graders and {', '.join(FUNCTIONS)}"
                self.problems.append((position, SpecProblem(message, fix)))
        yield _Token("end", "", end + 1)


def _sum(terms: list[tuple[str, _Node]]) -> _Node:
    def compute(values: Values) -> float:
        total = terms[0][1](values)
        for sign, term in terms[1:]:
            total = total + term(values) if sign == "+" else total - term(values)
        return total

    return compute


def _product(factors: list[tuple[str, _Node]]) -> _Node:
    def compute(values: Values) -> float:
        total = factors[0][1](values)
        for sign, factor in factors[1:]:
            total = total * factor(values) if sign == "*" else total / factor(values)
        return total

    return compute
