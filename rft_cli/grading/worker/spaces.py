"""Names of modules and classes that must stay what they are, and how to see quickly that they did.

What is used here while a scorer runs is bound to names of this module: a scorer may replace the others.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator, Mapping, ValuesView
from itertools import chain
from types import CodeType, FunctionType
from typing import Any, NamedTuple

MISSING = object()
_flat, _list, _error, _vars = chain.from_iterable, list, Exception, vars


class Space(NamedTuple):
    """The names of a module or class, and those of them that must stay what they are."""

    label: str
    names: Mapping[str, Any]
    kept: dict[str, Any]

    def changed(self) -> list[Change]:
        get = self.names.get
        return [
            Change(f"{self.label}.{key}", self, key, get(key, MISSING))
            for key, value in self.kept.items()
            if get(key, MISSING) is not value
        ]


class Change(NamedTuple):
    """A name of `space` that is now `value`, or (without them) a setting."""

    told: str
    space: Space | None = None
    key: str = ""
    value: Any = None


class Shelf:
    """Spaces that are compared together, by one list of all their values: it shows at once that nothing changed."""

    def __init__(self) -> None:
        self.spaces: list[Space] = []
        self._views: list[ValuesView[Any]] = []
        self._values: list[Any] = []

    def look(self) -> None:
        """What there is now is what must stay."""
        self._views = [space.names.values() for space in self.spaces]
        self._values = _list(_flat(self._views))

    def changed(self) -> Iterator[Change]:
        current = _list(_flat(self._views))
        try:
            same = current == self._values
        except _error:  # an array, say, that is not the one it was
            same = False
        if not same:
            self._values = current
            for space in self.spaces:
                yield from space.changed()


def codes_of(space: Mapping[str, Any]) -> Iterator[CodeType]:
    """The code of a module's functions, of its classes' methods, and of what is defined inside of them."""
    todo: list[CodeType] = []
    for value in [*space.values()]:
        for each in [*_vars(value).values()] if isinstance(value, type) else [value]:
            function = getattr(each, "__func__", each)
            if isinstance(function, FunctionType):
                todo.append(function.__code__)
    while todo:
        code = todo.pop()
        yield code
        todo.extend(inner for inner in code.co_consts if isinstance(inner, CodeType))


def assigned_globals(space: Mapping[str, Any]) -> set[str]:
    """The names that a module's functions assign after a `global` statement: what they hold is data."""
    instructions = chain.from_iterable(dis.get_instructions(code) for code in codes_of(space))
    return {step.argval for step in instructions if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")}
