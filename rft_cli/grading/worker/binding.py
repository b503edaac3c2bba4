"""How a scorer is called: which of its parameters gets the completion, the row, the sample, the metadata."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rft_cli.grading.wire.work import Item

Role = Literal["completion", "example", "sample", "metadata"]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("completion", "output", "response", "text"), "completion"),
    **dict.fromkeys(("completions", "outputs", "responses", "texts"), "completion"),
    **dict.fromkeys(("example", "item", "row", "examples", "items", "rows"), "example"),
    **dict.fromkeys(("sample", "samples"), "sample"),
    "metadata": "metadata",
}
_PLURAL = frozenset({"completions", "outputs", "responses", "texts", "samples"})
_WITHOUT_VALUE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

SIGNATURES = (
    "score(completion), score(completion, example), grade(sample, item) or score_batch(completions, examples), "
    "each with an optional metadata"
)


class SignatureProblem(Exception):
    """The function can't be called as a scorer; the text says why."""


@dataclass(frozen=True, slots=True)
class Binding:
    """`positional` roles in order, then `keyword` (parameter name, role). A batch scorer gets lists of each."""

    batch: bool
    positional: tuple[Role, ...]
    keyword: tuple[tuple[str, Role], ...]

    def call(self, function: Callable[..., Any], item: Item) -> Any:
        """Call a scorer of one completion."""
        arguments = [value_of(role, item) for role in self.positional]
        if not self.keyword:
            return function(*arguments)
        return function(*arguments, **{name: value_of(role, item) for name, role in self.keyword})

    def call_batch(self, function: Callable[..., Any], items: Sequence[Item]) -> Any:
        """Call a batch scorer with all items at once."""
        arguments = [[value_of(role, item) for item in items] for role in self.positional]
        named = {name: [value_of(role, item) for item in items] for name, role in self.keyword}
        return function(*arguments, **named)


BY_POSITION = Binding(False, ("sample", "example"), ())
"""How OpenAI calls grade(sample, item)."""


def value_of(role: Role, item: Item) -> Any:
    """The argument that a parameter of this role gets."""
    if role == "completion":
        return item.completion
    if role == "example":
        return item.example
    return item.metadata if role == "metadata" else sample_of(item)


def sample_of(item: Item) -> dict[str, Any]:
    """OpenAI's `sample`: the text, the text as JSON where it is JSON (else None), and the choice it came in."""
    finish = "length" if item.metadata.get("truncated") else "stop"
    message = {"role": "assistant", "content": item.completion}
    return {
        "output_text": item.completion,
        "output_json": _json_or_none(item.completion),
        "output_tools": [],
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def bind(function: Callable[..., Any], name: str) -> Binding:
    """Decide how `function` is called: known names first, then by position; raises SignatureProblem.

    By position, the first parameter without a known name is the completion and the next is the example.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise SignatureProblem("has no signature that Python can read") from None
    named = [p for p in parameters if p.kind not in _WITHOUT_VALUE]
    batch = name.endswith("_batch") or any(p.name in _PLURAL for p in named)
    roles = _by_name(named)
    free = [role for role in ("completion", "example") if role not in roles.values()]
    if "sample" in roles.values():
        free = [role for role in free if role != "completion"]
    unknown = [p for p in named if p.name not in roles and p.default is p.empty]
    if len(unknown) > len(free) or any(p.kind is p.KEYWORD_ONLY for p in unknown):
        names = ", ".join(f"'{p.name}'" for p in unknown)
        raise SignatureProblem(f"requires {names}, which rft has no value for")
    roles.update({p.name: role for p, role in zip(unknown, free, strict=False)})  # type: ignore[misc]
    return _arranged(parameters, roles, batch)


def _by_name(named: Sequence[inspect.Parameter]) -> dict[str, Role]:
    roles: dict[str, Role] = {}
    owner: dict[Role, str] = {}
    for parameter in named:
        role = _ROLES.get(parameter.name)
        if role is None:
            continue
        if role in owner:
            if parameter.default is parameter.empty:
                both = f"'{owner[role]}' and '{parameter.name}'"
                raise SignatureProblem(f"has {both}, which both mean the {role}")
            continue  # a second name with a default keeps its default
        owner[role] = parameter.name
        roles[parameter.name] = role
    return roles


def _arranged(parameters: Sequence[inspect.Parameter], roles: Mapping[str, Role], batch: bool) -> Binding:
    """Positions as far as they go without a gap, keywords after; *args and **kwargs take what is still free."""
    positional: list[Role] = []
    keyword: list[tuple[str, Role]] = []
    gap = False
    for parameter in parameters:
        bound = set(positional) | {role for _, role in keyword}
        if parameter.kind is parameter.VAR_POSITIONAL:
            if not roles and not gap:
                positional.extend(("completion", "example"))
            gap = True
        elif parameter.kind is parameter.VAR_KEYWORD:
            ending = "s" if batch else ""
            if not bound & {"completion", "sample"}:
                keyword.append((f"completion{ending}", "completion"))
            if "example" not in bound:
                keyword.append((f"example{ending}", "example"))
        elif parameter.name not in roles:
            gap = True
        elif gap or parameter.kind is parameter.KEYWORD_ONLY:
            keyword.append((parameter.name, roles[parameter.name]))
        else:
            positional.append(roles[parameter.name])
    if not {"completion", "sample"} & {*positional, *(role for _, role in keyword)}:
        raise SignatureProblem("does not take the completion")
    return Binding(batch, tuple(positional), tuple(keyword))
