"""Reads a function without calling it: its parameters, and the words that its code looks for in its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from rft_cli.grading.wire.signature import Callee, Parameter

_LOOKED_FOR = frozenset({"content", "role", "completions"})
_KINDS_OF_MESSAGES = frozenset({"list", "dict", "Sequence", "Mapping"})
_MOST_FUNCTIONS = 300


def callee_of(function: Callable[..., Any], name: str) -> Callee:
    """What decides the binding of `function`; raises TypeError or ValueError where it has no signature."""
    parameters = tuple(
        Parameter(p.name, int(p.kind), p.default is p.empty, p.annotation in (str, "str"))
        for p in inspect.signature(function).parameters.values()
    )
    return Callee(name, parameters, tuple(sorted(_words_in(function))))


def _words_in(function: Callable[..., Any]) -> set[str]:
    found: set[str] = set()
    for code in _codes(function):
        for constant in code.co_consts:
            texts = constant if isinstance(constant, tuple) else (constant,)
            found.update(text for text in texts if isinstance(text, str) and text in _LOOKED_FOR)
        if "isinstance" in code.co_names and not _KINDS_OF_MESSAGES.isdisjoint(code.co_names):
            found.add("isinstance")
    return found


def _codes(function: Callable[..., Any]) -> Iterator[CodeType]:
    """The code of the function and of the functions that it names, in its own module and in those it imports."""
    called = vars(type(function)).get("__call__")  # of an instance of the user's class
    waiting: list[Any] = [function, inspect.unwrap(function), getattr(function, "func", None), called]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_FUNCTIONS:
        value = waiting.pop()
        if isinstance(value, type):
            waiting.extend(vars(value).values())
            continue
        value = getattr(value, "__func__", value)
        if not isinstance(value, FunctionType) or id(value) in seen:
            continue
        seen.add(id(value))
        codes = [value.__code__]
        for code in codes:
            codes.extend(inner for inner in code.co_consts if isinstance(inner, CodeType))
            yield code
            waiting.extend(_named(code, value.__globals__))


def _named(code: CodeType, space: dict[str, Any]) -> Iterator[Any]:
    for name in code.co_names:
        value = space.get(name)
        if isinstance(value, ModuleType):
            yield from (vars(value)[other] for other in code.co_names if other in vars(value))
        elif isinstance(value, FunctionType | type):
            yield value
