"""A scorer's function: its parameters, what its code looks for in them, and the value that each of them gets."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType
from typing import Any, Literal, NamedTuple

SIGNATURES = (
    "score(completion), score(completion, example), grade(sample, item), score_batch(completions, examples), or a "
    "form of TRL, verl, Predibase, Together, OpenRLHF or AWS: see docs/graders.md"
)
Role = Literal[
    "completion", "query", "example", "sample", "prompt", "reference", "column", "row_or_empty", "metadata", "ids",
    "nothing", "logger", "event", "context", "default",
]  # fmt: skip
"""What a parameter gets; `worker/arguments.py` makes the value of a completion and its row."""
Dialect = Literal["rft", "openai", "trl", "verl", "openrlhf", "aws"]


class Parameter(NamedTuple):
    """One parameter of a function. `kind` is inspect's; `text`: it is annotated as str."""

    name: str
    kind: int
    required: bool
    text: bool = False


class Callee(NamedTuple):
    """A function's name and parameters. `reads`: words that its code looks for in its arguments."""

    name: str
    parameters: tuple[Parameter, ...]
    reads: tuple[str, ...] = ()


class Given(NamedTuple):
    """What one parameter gets: `role`, and for a value of the row its `key`."""

    role: Role
    key: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """How a function is called, decided once. A batch function gets lists, a value for each completion.

    `positional` come first, then `keyword` by name. `optional`: names that are given only where the row has such a key.
    `rest`: what **kwargs gets. row: the row's keys, the row, the completion; trl: what TRL passes. `named` are all
    parameters, which it does not get again. `messages`: completions and prompts come as lists of messages.
    `columns` are the data's own names, by which a row's reference is found before it travels.
    """

    dialect: Dialect
    batch: bool
    positional: tuple[Given, ...]
    keyword: tuple[tuple[str, Given], ...] = ()
    optional: tuple[str, ...] = ()
    rest: Literal["none", "row", "trl"] = "none"
    named: frozenset[str] = frozenset()
    messages: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)

    def uses(self, *roles: Role) -> bool:
        """Whether a parameter has one of these roles."""
        return any(given.role in roles for given in (*self.positional, *(given for _, given in self.keyword)))

    @property
    def wants_prompt(self) -> bool:
        """Whether the call needs what the model was asked."""
        return self.uses("prompt", "query", "event") or self.rest == "trl"

    @property
    def wants_reference(self) -> bool:
        """Whether the call needs what the data layer finds as the row's reference."""
        return self.uses("reference", "event")

    @property
    def wants_ids(self) -> bool:
        """Whether the call needs the completion's token ids."""
        return self.uses("ids") or self.rest == "trl"


OPENAI = Binding("openai", False, (Given("sample"), Given("example")))
"""How OpenAI calls grade(sample, item)."""


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
