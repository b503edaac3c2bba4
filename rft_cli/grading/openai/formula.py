"""`calculate_output`: a small formula language, parsed once, computed for each completion. Nothing is ever eval'd.

sum     := product (("+" | "-") product)*
product := sign (("*" | "/") sign)*
sign    := ("-" | "+") sign | power
power   := atom ["^" sign]                      right-associative, binds tighter than a sign before it: -2^2 = -4
atom    := number | name | function "(" sum ("," sum)* ")" | "(" sum ")"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rft_cli.grading.openai.formula_words import FUNCTIONS, Token, read_tokens, unknown_names
from rft_cli.grading.openai.problems import SpecProblem

Values = Mapping[str, float]
_Node = Callable[[Values], float]

_VARIADIC = ("min", "max")
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


def parse_formula(text: str, known: Iterable[str] | None) -> Formula:
    """Parse `text`, in which the names in `known` stand for rewards (None: nobody knows which names do).

    Raises SpecProblem, which has all that is wrong: each unknown name, and the first place where it can't be read.
    """
    return _Parser(text, None if known is None else tuple(known)).formula()


class _Parser:
    """Recursive descent; each method returns a function that computes its part."""

    def __init__(self, text: str, known: tuple[str, ...] | None) -> None:
        self.text = text
        self.known = known
        self.tokens, self.problems = read_tokens(text)
        self.next = 0
        self.depth = 0
        self.stopped_at = 0
        self.names: list[str] = []

    def formula(self) -> Formula:
        readable = not self.problems  # where strange characters stand, what is around them makes no sense
        self.problems += unknown_names(self.tokens, self.known)
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

    def variable(self, token: Token) -> _Node:
        name = token.text
        if name not in self.names:
            self.names.append(name)
        return lambda values: values[name]

    def call(self, token: Token) -> _Node:
        function = FUNCTIONS.get(token.text, max)  # an unknown one was told already
        opening = self.peek()
        self.next += 1
        arguments = [self.sum()]
        while self.take(",") is not None:
            arguments.append(self.sum())
        self.expect(")", opening)
        if len(arguments) > 1 and token.text in FUNCTIONS and token.text not in _VARIADIC:
            problem = SpecProblem(
                f"column {token.column}: {token.text} takes one number (got {len(arguments)})",
                f"write {token.text}(…) with one number",
            )
            self.problems.append((token.column, problem))
        if token.text in _VARIADIC:
            return lambda values: function([argument(values) for argument in arguments])
        return lambda values: function(arguments[0](values))

    def expect(self, text: str, opening: Token) -> None:
        if self.take(text) is None:
            token = self.peek()
            if token.kind == "end":
                self.stopped_at = opening.column
                raise SpecProblem(f"column {opening.column}: '(' is never closed", "add ')'")
            raise self.problem(token, "is not expected here")

    def take(self, *texts: str) -> Token | None:
        token = self.peek()
        if token.kind != "sign" or token.text not in texts:
            return None
        self.next += 1
        return token

    def peek(self) -> Token:
        return self.tokens[self.next]

    def problem(self, token: Token, what: str) -> SpecProblem:
        self.stopped_at = token.column
        shown = "the end" if token.kind == "end" else f"'{token.text}'"
        return SpecProblem(f"column {token.column}: {shown} {what}", f"correct the formula {self.text!r}")


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
