"""Decides which value each parameter of a scorer gets: by its name, by the rows' keys, or by its position.

Names of the completion and of the row come first, then keys of the row, then all other known names; position decides
where no name does. A parameter that no rule fills is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rft_cli.grading.pool import parameter_names as words
from rft_cli.grading.shape import Shape
from rft_cli.grading.worker.signature import Binding, Callee, Dialect, Given, Parameter, Role

_BY_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_BY_POSITION = inspect.Parameter.POSITIONAL_ONLY
_ARGS, _KWARGS = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
_MOST_KEYS = 12


class SignatureProblem(Exception):
    """The function can't be called as a scorer; the text says why. `rows_may_help`: keys of the rows may fill it."""

    def __init__(self, message: str, *, rows_may_help: bool = False) -> None:
        super().__init__(message)
        self.rows_may_help = rows_may_help


class Bound(NamedTuple):
    """The binding, with notes for people: guesses, and values that replace others."""

    binding: Binding
    notes: tuple[str, ...] = ()


def bind(callee: Callee, shape: Shape) -> Bound:
    """Decide what each parameter gets on rows of this shape; raises SignatureProblem."""
    named = [p for p in callee.parameters if p.kind not in (_ARGS, _KWARGS)]
    if _is_lambda(callee, named):
        return Bound(Binding("aws", True, (Given("event"), Given("context")), columns=shape.columns))
    return _Binder(callee, named, shape).bound()


def _is_lambda(callee: Callee, named: Sequence[Parameter]) -> bool:
    """AWS passes event and context by position; handlers may call them otherwise."""
    two = len(named) == 2 and all(p.kind != _BY_KEYWORD for p in named)
    return two and ([p.name for p in named] == ["event", "context"] or callee.name == "lambda_handler")


@dataclass
class _Binder:
    callee: Callee
    named: Sequence[Parameter]
    shape: Shape
    given: dict[str, Given] = field(default_factory=dict)
    optional: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = self.shape.keys or frozenset()
        self.takes_rest = any(p.kind == _KWARGS for p in self.callee.parameters)
        self.takes_more = any(p.kind == _ARGS for p in self.callee.parameters)

    def bound(self) -> Bound:
        self._choose("completion", [*words.COMPLETION, *words.COMPLETIONS])
        self._choose("example", words.EXAMPLE)
        self._take_sample()
        for parameter in self.named:
            self._take_key_or_word(parameter)
        self._take_by_position()
        batch = self._is_batch()
        dialect = self._dialect(batch)
        self._check(batch, dialect)
        messages = dialect == "trl" and self._as_messages()
        if dialect == "trl":
            self._note_form(messages)
        positional, keyword = self._arranged()
        rest = (
            {"trl": "trl", "verl": "none", "openrlhf": "none"}.get(dialect, "row")
            if self.takes_rest
            else "none"
        )
        binding = Binding(
            dialect, batch, positional, keyword, tuple(self.optional), rest,  # type: ignore[arg-type]
            frozenset(p.name for p in self.named), messages, self.shape.columns,
        )  # fmt: skip
        return Bound(binding, tuple(self.notes))

    def _choose(self, role: str, known: Sequence[str]) -> None:
        """The parameter that gets the completion, or the row: of several names first those that are no key."""
        by_name = {p.name: p for p in self.named}
        found = [by_name[name] for name in known if name in by_name]
        found += [
            p for p in self.named if p.required and p not in found and p.name not in words.OTHERS
            and p.name not in words.SAMPLE and p.name not in (*words.COMPLETION, *words.COMPLETIONS, *words.EXAMPLE)
            and p.name not in self.keys and words.sounds_like(p.name) == role
        ]  # fmt: skip
        if not found:
            return
        chosen = next(
            (p for p in found if p.name not in self.keys or p.name in ("completion", "completions")), found[0]
        )
        self.given[chosen.name] = Given("query" if chosen.name == "queries" else role)  # type: ignore[arg-type]
        what = "the completion" if role == "completion" else "the whole row"
        if chosen.name not in known:
            self.notes.append(f"'{chosen.name}' gets {what}, by its name")
        elif chosen.name in self.keys and chosen.name not in ("completion", "completions"):
            self.notes.append(f"'{chosen.name}' gets {what}, and not the rows' key '{chosen.name}'")
        for other in found:
            if other is not chosen and other.name not in self.keys and other.required and other.name in known:
                both = f"'{chosen.name}' and '{other.name}'"
                raise SignatureProblem(f"has {both}, which both mean the {role}", rows_may_help=True)

    def _take_sample(self) -> None:
        for parameter in self.named:
            if parameter.name in words.SAMPLE and not (
                self._has("completion") and parameter.name in self.keys
            ):
                if self._has("sample"):
                    if parameter.required:
                        raise SignatureProblem("has 'sample' and 'samples', which both mean the sample")
                    continue
                self.given[parameter.name] = Given("sample")

    def _take_key_or_word(self, parameter: Parameter) -> None:
        name = parameter.name
        if name in self.given:
            return
        role = _role_of(parameter)
        of_the_row = name in self.keys and not (role == "prompt" and parameter.text)
        if of_the_row and parameter.required:
            self.given[name] = Given("column", name)
            if name in ("metadata", "prompts"):
                self.notes.append(f"'{name}' gets the rows' key '{name}'")
        elif of_the_row or (not parameter.required and name not in words.FILLED_THOUGH_OPTIONAL):
            self.optional.append(name)
        elif role is not None:
            self._take_word(parameter, role)

    def _take_word(self, parameter: Parameter, role: str) -> None:
        name = parameter.name
        if role == "reference":
            if self.shape.keys is not None and not self.shape.reference:
                return
            if not (self.shape.judged and name in ("ground_truth", "ground_truths")):
                self.notes.append(f"'{name}' gets the row's reference: {self._lacks(name)}")
        elif role == "row_or_empty":
            empty = "''" if name.startswith("data_source") else "{}"
            self.notes.append(f"'{name}' gets {empty}: {self._lacks(name)}")
        elif role == "nothing":
            self.notes.append(f"'{name}' gets None: only TRL's own trainer has one")
        elif role == "logger":
            self.notes.append(f"'{name}' gets a function that does nothing: return a dict for components")
        self.given[name] = Given(role, name)  # type: ignore[arg-type]

    def _lacks(self, name: str) -> str:
        return f"{self.shape.place or 'the row'} has no key '{name}'"

    def _take_by_position(self) -> None:
        """One argument is the completion, two are completion and row; OpenAI passes sample and item by position."""
        left = self._unfilled()
        free = [p for p in left if p.kind != _BY_KEYWORD and _role_of(p) is None]
        free = [p for p in free if p.name not in words.NEVER_BY_POSITION]
        found: list[tuple[str, str]] = []
        if not self._has("completion", "query", "sample", "ids") and free:
            self.given[free[0].name] = Given("completion")
            found.append((free.pop(0).name, "the completion"))
        by_name = set(self.given) - {name for name, _ in found}
        only_sample = self._has("sample") and len(by_name) == 1
        if len(free) == 1 and not self._has("example") and (only_sample or (found and not by_name)):
            self.given[free[0].name] = Given("example")
            found.append((free[0].name, "the row"))
        if found:
            said = " and ".join(f"'{name}' gets {what}" for name, what in found)
            self.notes.append(f"{said}: by position, as no name decides")

    def _unfilled(self) -> list[Parameter]:
        return [p for p in self.named if p.required and p.name not in self.given]

    def _has(self, *roles: str) -> bool:
        return any(given.role in roles for given in self.given.values())

    def _is_batch(self) -> bool:
        if self.callee.name.endswith("_batch"):
            return True
        texts = [
            name for name, given in self.given.items() if given.role in ("completion", "query", "sample")
        ]
        if texts:
            return any(name in words.PLURAL for name in texts)
        others = any(name in words.PLURAL_OTHERS for name in self.given)
        return others or (self.takes_rest and "completions" in self.callee.reads)

    def _dialect(self, batch: bool) -> Dialect:
        if self._has("query"):
            return "openrlhf"
        if "solution_str" in self.given or "solution_strs" in self.given:
            return "verl"
        if self._has("sample"):
            return "openai"
        if not batch or self.callee.name.endswith("_batch") or self._has("example", "metadata"):
            return "rft"
        name = next((name for name, given in self.given.items() if given.role == "completion"), "completions")
        more = len(self.given) > 1 or self.takes_rest or bool(words.OF_TRL & set(self.given))
        return "trl" if name == "completions" and more else "rft"

    def _check(self, batch: bool, dialect: str) -> None:
        """Refuse parameters without a value, and a function that never sees the completion."""
        left = self._unfilled()
        if left:
            names = ", ".join(f"'{p.name}'" for p in left)
            raise SignatureProblem(
                f"requires {names}, which rft has no value for{self._available()}", rows_may_help=True
            )
        seen = self._has("completion", "query", "sample") or (batch and self._has("ids"))
        if not (seen or self.takes_rest or (self.takes_more and not self.named)):
            raise SignatureProblem(f"does not take the completion{self._available() if self.given else ''}")

    def _available(self) -> str:
        if self.shape.keys is None:
            return ""
        keys = sorted(self.keys)
        more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
        said = ", ".join(repr(key) for key in keys[:_MOST_KEYS]) or "none"
        return f" ({self.shape.place or 'the row'} has the keys {said}{more})"

    def _as_messages(self) -> bool:
        """Whether TRL's completions come as messages: where the code looks into them, as TRL gives them."""
        reads = [word for word in self.callee.reads if word not in self.keys]
        return "content" in reads or "role" in reads or (self.shape.messages and "isinstance" in reads)

    def _note_form(self, messages: bool) -> None:
        if messages and not self.shape.messages:
            self.notes.append(
                "completions are given as messages, which the function reads, though the rows are text"
            )
        elif self.shape.messages and not messages:
            self.notes.append("completions are given as text: the function reads no message's content")

    def _arranged(self) -> tuple[tuple[Given, ...], tuple[tuple[str, Given], ...]]:
        """By position as far as they go without a gap, by name after; *args alone gets completion and row."""
        positional: list[Given] = []
        keyword: list[tuple[str, Given]] = []
        last = max(
            (i for i, p in enumerate(self.named) if p.kind == _BY_POSITION and p.name in self.given),
            default=-1,
        )
        gap = False
        for place, parameter in enumerate(self.named):
            given = self.given.get(parameter.name)
            if given is None:
                gap = gap or place > last
                if place <= last:
                    positional.append(Given("default", parameter.name))
            elif gap or parameter.kind == _BY_KEYWORD:
                keyword.append((parameter.name, given))
            else:
                positional.append(given)
        if self.takes_more and not self.named:
            positional = [Given("completion"), Given("example")]
        # A key for a parameter that takes no name can't reach it: its default stays.
        unnamed = {p.name for p in self.named if p.kind == _BY_POSITION}
        self.optional = [name for name in self.optional if name not in unnamed]
        return tuple(positional), tuple(keyword)


def _role_of(parameter: Parameter) -> Role | None:
    """What the name means where rows have no such key: a known name, or one that says reference by a part of it."""
    known = words.OTHERS.get(parameter.name)
    if known is None and parameter.required and words.sounds_like(parameter.name) == "reference":
        return "reference"
    return known


def may_ask(callee: Callee) -> bool:
    """Whether a call may need the prompt or the row's reference, as far as it shows without a row."""
    named = [p for p in callee.parameters if p.kind not in (_ARGS, _KWARGS)]
    names = {p.name for p in named}
    if "queries" in names or _is_lambda(callee, named):
        return True
    if any(_role_of(p) in ("prompt", "reference") and (p.required or "prompt" in p.name) for p in named):
        return True
    takes_rest = any(p.kind == _KWARGS for p in callee.parameters) and not callee.name.endswith("_batch")
    return takes_rest and "completions" in {*names, *callee.reads}
