"""The arguments of a call, made of a completion and its row as the binding says. A batch gets a list of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from rft_cli.grading.wire.messages import Item
from rft_cli.grading.wire.signature import Binding, Given
from rft_cli.grading.worker.lambda_event import CONTEXT, event_of
from rft_cli.grading.worker.values import BadValue

_NOT_TRL = ("prompt", "completion", "completion_ids")
"""Columns that TRL keeps from reward functions: they get its own in their place."""
Get = Callable[[Item], Any]


class NoValue(BadValue):
    """This row has nothing for a parameter; the text says for which."""


class Call:
    """A function with its binding, made once: `single` and `batch` give positional and named arguments."""

    def __init__(self, binding: Binding, defaults: dict[str, Any]) -> None:
        self._binding = binding
        self._defaults = defaults
        self._positional = [self._getter(given) for given in binding.positional]
        self._keyword = [(name, self._getter(given)) for name, given in binding.keyword]
        self._plain = not (self._keyword or binding.optional or binding.rest != "none")

    def call(self, function: Callable[..., Any], item: Item) -> Any:
        """Call a scorer of one completion."""
        arguments = [get(item) for get in self._positional]
        if self._plain:
            return function(*arguments)
        named = {name: get(item) for name, get in self._keyword}
        row = item.example
        for name in self._binding.optional:
            if name in row:
                named[name] = row[name]
        if self._binding.rest == "row":
            named.update(self._rest_of(item))
        return function(*arguments, **named)

    def call_batch(self, function: Callable[..., Any], items: Sequence[Item]) -> Any:
        """Call a batch scorer with all items at once."""
        binding = self._binding
        if binding.dialect == "aws":
            return function(event_of(items), CONTEXT)
        arguments = [self._listed(given, items) for given in binding.positional]
        named = {name: self._listed(given, items) for name, given in binding.keyword}
        for name in binding.optional:
            if any(name in item.example for item in items):
                named[name] = [item.example.get(name) for item in items]
        if binding.rest == "trl":
            named.update(self._rest_of_trl(items))
        elif binding.rest == "row":
            named.update(self._rest_of_batch(items))
        return function(*arguments, **named)

    def _getter(self, given: Given) -> Get:
        role, key = given
        simple: dict[str, Get] = {
            "completion": _as_message if self._binding.messages else _completion,
            "query": _query,
            "example": _example,
            "sample": sample_of,
            "prompt": _prompt_messages if self._binding.messages else _prompt_text,
            "metadata": _metadata,
            "ids": _ids,
            "nothing": _nothing,
            "logger": _logger,
        }
        if role == "column":
            return partial(_batch_column if self._binding.batch else _column, key)
        if role == "reference":
            return partial(_reference, key, self._binding)
        if role == "row_or_empty":
            return partial(_row_or_empty, key)
        if role == "default":
            return lambda _item: self._defaults[key]
        return simple.get(role, _nothing)

    def _listed(self, given: Given, items: Sequence[Item]) -> Any:
        """A list with a value for each completion; what TRL passes once for the whole batch as it is."""
        get = self._getter(given)
        if given.role in ("nothing", "logger", "default"):
            return get(items[0])
        return [get(item) for item in items]

    def _rest_of(self, item: Item) -> dict[str, Any]:
        named = self._binding.named
        rest = {name: value for name, value in item.example.items() if name not in named}
        if not self._binding.uses("completion", "sample"):
            rest["completion"] = item.completion
        if not self._binding.uses("example"):
            rest["example"] = item.example
        return rest

    def _rest_of_batch(self, items: Sequence[Item]) -> dict[str, Any]:
        named = self._binding.named
        rest: dict[str, Any] = {
            name: [item.example.get(name) for item in items] for name in _keys_of(items) if name not in named
        }
        if not self._binding.uses("completion", "sample"):
            rest["completions"] = [item.completion for item in items]
        if not self._binding.uses("example"):
            rest["examples"] = [item.example for item in items]
        return rest

    def _rest_of_trl(self, items: Sequence[Item]) -> dict[str, Any]:
        own = {
            "prompts": Given("prompt"),
            "completions": Given("completion"),
            "completion_ids": Given("ids"),
            "trainer_state": Given("nothing"),
            "log_extra": Given("logger"),
            "log_metric": Given("logger"),
        }
        named = self._binding.named
        rest = {
            name: [item.example.get(name) for item in items]
            for name in _keys_of(items)
            if name not in named and name not in _NOT_TRL
        }
        return {
            **rest,
            **{name: self._listed(given, items) for name, given in own.items() if name not in named},
        }


def _keys_of(items: Iterable[Item]) -> dict[str, None]:
    return {key: None for item in items for key in item.example}


def _completion(item: Item) -> str:
    return item.completion


def _as_message(item: Item) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": item.completion}]


def _example(item: Item) -> dict[str, Any]:
    return item.example


def _metadata(item: Item) -> dict[str, Any]:
    return item.metadata


def _ids(item: Item) -> list[int] | None:
    return item.ids


def _nothing(_item: Item) -> None:
    return None


def _logger(_item: Item) -> Callable[..., None]:
    return _keep_nothing


def _keep_nothing(*_values: Any, **_named: Any) -> None:
    return None


def _prompt_text(item: Item) -> str:
    if item.prompt is None:
        raise NoValue("the row has no prompt")
    if isinstance(item.prompt, str):
        return item.prompt
    return "\n\n".join(str(message["content"]) for message in item.prompt)


def _prompt_messages(item: Item) -> list[dict[str, Any]]:
    if isinstance(item.prompt, list):
        return item.prompt
    return [{"role": "user", "content": _prompt_text(item)}]


def _query(item: Item) -> str:
    return _prompt_text(item) + item.completion


def _column(key: str, item: Item) -> Any:
    try:
        return item.example[key]
    except KeyError:
        raise NoValue(f"the row has no key '{key}', which the function requires") from None


def _batch_column(key: str, item: Item) -> Any:
    return item.example.get(key)


def _row_or_empty(key: str, item: Item) -> Any:
    """What verl's rows have; the plural is of its batch functions."""
    empty: Any = "" if key.startswith("data_source") else {}
    return item.example.get(key.removesuffix("s"), empty)


def _reference(key: str, binding: Binding, item: Item) -> Any:
    value = item.example.get(key)
    if value is None:
        value = item.reference
    if value is None and not binding.batch:
        raise NoValue(f"the row has neither a key '{key}' nor a reference")
    return value


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
