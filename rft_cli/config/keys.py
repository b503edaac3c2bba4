"""Every setting by its dotted name, from the schema: what it takes, and how text becomes its value."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rft_cli.config.scalars import YES_NO, plain
from rft_cli.config.schema import RunConfig

COLUMN_NAMES = (
    *("prompt", "messages", "task", "input", "output", "question", "answer"),
    *("instruction", "context", "problem", "query", "conversations", "system", "tools"),
)
"""The names that `data.columns` can map to a file's own keys."""

OPEN = ("model.chat_template_kwargs",)
"""Settings that are mappings with keys of the user's own: `--set SETTING.KEY=VALUE` sets one."""

_FLAGS = {
    "data.train": "--training-file",
    "data.validation": "--validation-file",
    "data.test": "--test",
    "model.path": "--model",
    "grader.path": "--reward-model",
    "grader.guard": "--guard",
    "grader.timeout_s": "--timeout",
    "grader.env": "--grader-env",
}


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of the things a setting takes: a type, its bounds, or the words of a Literal."""

    type: Any
    bounds: tuple[Any, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its dotted name, what it takes, its default and its docstring."""

    name: str
    alternatives: tuple[Alternative, ...]
    default: Any
    description: str

    def takes(self, type: type) -> bool:
        """Whether any value of `type` is among the alternatives (a Literal's words are not free text)."""
        return any(alternative.type is type for alternative in self.alternatives)

    def words(self) -> list[str]:
        return [word for alternative in self.alternatives for word in alternative.words]

    def describe(self) -> str:
        """What the setting takes, for example `a number > 0 or 'auto'`."""
        parts = [part for alternative in self.alternatives for part in _described(alternative)]
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


def flag_of(key: str) -> str:
    """The flag that sets this setting, in the commands that have it."""
    return _FLAGS.get(key, "--" + key.rpartition(".")[2].replace("_", "-"))


@cache
def all_keys() -> dict[str, Key]:
    """Every setting in the schema's order, `data.columns` by its single names."""
    return {key.name: key for key in _keys(RunConfig, "")}


@cache
def all_sections() -> frozenset[str]:
    """The dotted names of sections."""
    return frozenset(name.rpartition(".")[0] for name in all_keys() if "." in name)


def _keys(model: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, info in model.model_fields.items():
        dotted = prefix + name
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _keys(annotation, f"{dotted}.")
        elif get_origin(annotation) is dict and dotted not in OPEN:
            for column in COLUMN_NAMES:
                yield Key(f"{dotted}.{column}", (Alternative(str),), None, info.description or "")
        else:
            yield _key(dotted, info)


def _key(name: str, info: FieldInfo) -> Key:
    default = info.get_default(call_default_factory=True)
    return Key(name, tuple(_alternatives(info.annotation, info.metadata)), default, info.description or "")


def _alternatives(annotation: Any, bounds: Sequence[Any] = ()) -> Iterator[Alternative]:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *own = get_args(annotation)
        # Field(gt=0) inside a union arrives as a FieldInfo that holds the bound.
        flat = [bound for item in own for bound in (item.metadata if isinstance(item, FieldInfo) else [item])]
        yield from _alternatives(inner, [*bounds, *flat])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _alternatives(member, bounds)
    elif origin is Literal:
        yield Alternative(Literal, words=get_args(annotation))
    else:
        yield Alternative(origin or annotation, tuple(bounds))


def _described(alternative: Alternative) -> list[str]:
    if alternative.words:
        return [f"'{word}'" for word in alternative.words]
    if alternative.type is bool:
        return ["true", "false"]
    names = {str: "text", list: "a list of text", dict: "a mapping", types.NoneType: "null"}
    if alternative.type in names:
        return [names[alternative.type]]
    number = "a whole number" if alternative.type is int else "a number"
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    limits = [
        f"{sign} {getattr(bound, name)}"
        for bound in alternative.bounds
        for name, sign in signs.items()
        if hasattr(bound, name)
    ]
    return [f"{number} {' and '.join(limits)}".rstrip()]


def value_of_text(key: Key, text: str) -> Any:
    """The value that `text` from a flag, --set or the environment gives to `key`.

    Where a setting takes text it stays text ("007" too), so nobody has to quote twice: once for the shell and
    once for YAML. A list is `[a, b]` or `a,b`.
    """
    if key.takes(types.NoneType) and plain(text) is None:
        return None
    if key.takes(dict) and text.lstrip().startswith("{"):
        return free_value(text)
    if key.takes(list) and (text.startswith("[") or not key.takes(str)):
        if text.startswith("{"):
            # a mapping, in one piece: whoever reads the list says what is wrong with it
            return [text]
        inner = text.removeprefix("[").removesuffix("]")
        return [item.strip().strip("'\"") for item in inner.split(",") if item.strip()]
    if key.takes(str):
        return text
    if key.takes(bool) and text.lower() in YES_NO:
        return YES_NO[text.lower()]
    return plain(text.strip())


def free_value(text: str) -> Any:
    """A value that no schema describes: a list or mapping as YAML has them on one line, else what the word means."""
    if text.lstrip().startswith(("[", "{")):
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    value = plain(text.strip())
    return YES_NO.get(value.lower(), value) if isinstance(value, str) else value
