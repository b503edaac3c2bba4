"""The words of a formula: its tokens, and the names in it that stand for nothing."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rft_cli.config.suggest import closest
from rft_cli.grading.openai.problems import SpecProblem

FUNCTIONS: dict[str, Callable[..., float]] = {
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
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<sign>[-+*/^(),]))"
)
_NAME = re.compile(r"[^\W\d]\w*")
Found = tuple[int, SpecProblem]
"""A problem and its column."""


def is_name(text: str) -> bool:
    """Whether a sub-grader of this name can be used in a formula."""
    return _NAME.fullmatch(text) is not None and text not in FUNCTIONS


class Token(NamedTuple):
    """A number, name, sign or the end, and the column at which it begins."""

    kind: str
    text: str
    column: int


def read_tokens(text: str) -> tuple[list[Token], list[Found]]:
    """The tokens, an "end" as the last one; and each character that belongs to none, once."""
    tokens: list[Token] = []
    problems: list[Found] = []
    strange: set[str] = set()
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is not None:
            kind = str(match.lastgroup)
            tokens.append(Token(kind, match[kind], match.start(kind) + 1))
            position = match.end()
            continue
        while text[position].isspace():
            position += 1
        character = text[position]
        position += 1
        if character not in strange:
            strange.add(character)
            message = f"column {position}: {character!r} is not part of a formula"
            fix = f"use + - * / ^ ( ) , numbers, graders and {', '.join(FUNCTIONS)}"
            problems.append((position, SpecProblem(message, fix)))
    tokens.append(Token("end", "", end + 1))
    return tokens, problems


def unknown_names(tokens: Sequence[Token], known: Sequence[str] | None) -> list[Found]:
    """Every name that stands for nothing, once. `known` are the graders, None where nobody knows them."""
    problems: dict[str, Found] = {}
    for token, after in itertools.pairwise(tokens):
        if token.kind == "name" and token.text not in problems:
            problem = _no_function(token) if after.text == "(" else _no_grader(token, known)
            if problem is not None:
                problems[token.text] = (token.column, problem)
    return list(problems.values())


def _no_function(token: Token) -> SpecProblem | None:
    if token.text in FUNCTIONS:
        return None
    near = closest(token.text, FUNCTIONS)
    fix = f"did you mean '{near}'?" if near else f"the functions are: {', '.join(FUNCTIONS)}"
    return SpecProblem(f"column {token.column}: there is no function '{token.text}'", fix)


def _no_grader(token: Token, known: Sequence[str] | None) -> SpecProblem | None:
    if known is None or token.text in known:
        return None
    # A name that no formula can hold is told where it stands, and not again for its parts.
    if any(token.text in _NAME.findall(name) for name in known if not is_name(name)):
        return None
    if token.text in FUNCTIONS:
        return SpecProblem(f"column {token.column}: {token.text} is a function", f"write {token.text}(…)")
    near = closest(token.text, (*known, *FUNCTIONS))
    fix = f"did you mean '{near}'?" if near else f"the graders are: {', '.join(known)}"
    return SpecProblem(f"column {token.column}: there is no grader '{token.text}'", fix)
