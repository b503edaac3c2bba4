"""Describes a scorer's function: its parameters, the rows that it gets, and the value of each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Role = Literal[
    "completion",
    "query",
    "example",
    "sample",
    "prompt",
    "reference",
    "column",
    "row_or_empty",
    "metadata",
    "ids",
    "nothing",
    "logger",
    "event",
    "context",
    "default",
]
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


@dataclass(frozen=True, slots=True)
class Shape:
    """What a scorer's rows look like: their `keys` (None: no row was seen yet), and the first one's `place`.

    `messages`: their prompts are conversations. `reference`: the first has one, `judged`: as verl has it, in
    `reward_model.ground_truth`. `columns`: `data.columns`.
    """

    keys: frozenset[str] | None = None
    place: str = ""
    messages: bool = False
    reference: bool = False
    judged: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
