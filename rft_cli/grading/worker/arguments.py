"""The arguments of a call, made of a completion and its row as the binding says. A batch gets a list of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

from rft_cli.grading.worker.messages import Item
from rft_cli.grading.worker.return_values import BadValue
from rft_cli.grading.worker.signature import Binding, Given

_NOT_TRL = ("prompt", "completion", "completion_ids")
"""Columns that TRL keeps from reward functions: they get its own in their place."""
_OF_TRL = {
    "prompts": Given("prompt"),
    "completions": Given("completion"),
    "completion_ids": Given("ids"),
    "trainer_state": Given("nothing"),
    "log_extra": Given("logger"),
    "log_metric": Given("logger"),
}
"""What TRL passes beside the row's columns."""
Get = Callable[[Item], Any]


class NoValue(BadValue):
    """This row has nothing for a parameter; the text says for which."""


class Call:
    """Calls a function by its binding. `defaults` are of its parameters."""

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
        named |= {name: item.example[name] for name in self._binding.optional if name in item.example}
        if self._binding.rest == "row":
            named |= {name: values[0] for name, values in self._rest_of_row([item], "").items()}
        return function(*arguments, **named)

    def call_batch(self, function: Callable[..., Any], items: Sequence[Item]) -> Any:
        """Call a batch scorer with all items at once."""
        binding = self._binding
        if binding.dialect == "aws":
            return function(event_of(items), CONTEXT)
        arguments = [self._listed(given, items) for given in binding.positional]
        named = {name: self._listed(given, items) for name, given in binding.keyword}
        named |= _columns(items, lambda name: name in binding.optional)
        if binding.rest == "trl":
            named |= _columns(items, lambda name: name not in binding.named and name not in _NOT_TRL)
            own = {name: given for name, given in _OF_TRL.items() if name not in binding.named}
            named |= {name: self._listed(given, items) for name, given in own.items()}
        elif binding.rest == "row":
            named |= self._rest_of_row(items, "s")
        return function(*arguments, **named)

    def _getter(self, given: Given) -> Get:
        role, key = given
        binding = self._binding
        if role == "column":
            return (lambda item: item.example.get(key)) if binding.batch else partial(_column, key)
        if role == "reference":
            return partial(_reference, key, binding.batch)
        if role == "row_or_empty":
            return partial(_row_or_empty, key)
        if role == "default":
            return lambda _item: self._defaults[key]
        return (_MESSAGES if binding.messages and role in _MESSAGES else _GETTERS).get(role, _nothing)

    def _listed(self, given: Given, items: Sequence[Item]) -> Any:
        """A list with a value for each completion; what TRL passes once for the whole batch as it is."""
        get = self._getter(given)
        if given.role in ("nothing", "logger", "default"):
            return get(items[0])
        return [get(item) for item in items]

    def _rest_of_row(self, items: Sequence[Item], plural: str) -> dict[str, list[Any]]:
        """What **kwargs gets: the rows' keys, and completion and row where no parameter has them."""
        binding = self._binding
        rest = _columns(items, lambda name: name not in binding.named)
        if not binding.uses("completion", "sample"):
            rest[f"completion{plural}"] = [item.completion for item in items]
        if not binding.uses("example"):
            rest[f"example{plural}"] = [item.example for item in items]
        return rest


def _columns(items: Iterable[Item], is_wanted: Callable[[str], bool]) -> dict[str, list[Any]]:
    """The rows' values by key, None where a row has no such key."""
    keys = {key: None for item in items for key in item.example if is_wanted(key)}
    return {key: [item.example.get(key) for item in items] for key in keys}


def _nothing(_item: Item) -> None:
    return None


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


def _column(key: str, item: Item) -> Any:
    try:
        return item.example[key]
    except KeyError:
        raise NoValue(f"the row has no key '{key}', which the function requires") from None


def _row_or_empty(key: str, item: Item) -> Any:
    """What verl's rows have; the plural is of its batch functions."""
    empty: Any = "" if key.startswith("data_source") else {}
    return item.example.get(key.removesuffix("s"), empty)


def _reference(key: str, batch: bool, item: Item) -> Any:
    value = item.example.get(key)
    if value is None:
        value = item.reference
    if value is None and not batch:
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


_GETTERS: dict[str, Get] = {
    "completion": attrgetter("completion"),
    "query": lambda item: _prompt_text(item) + item.completion,
    "example": attrgetter("example"),
    "sample": sample_of,
    "prompt": _prompt_text,
    "metadata": attrgetter("metadata"),
    "ids": attrgetter("ids"),
    "logger": lambda _item: _keep_nothing,
}
_MESSAGES: dict[str, Get] = {
    "completion": lambda item: [{"role": "assistant", "content": item.completion}],
    "prompt": _prompt_messages,
}
"""The same where completions and prompts come as lists of messages."""


_PROMPTS = ("messages", "prompt")
_LONGEST_MS = 900_000


CONTEXT = SimpleNamespace(
    function_name="rft",
    function_version="$LATEST",
    invoked_function_arn="arn:aws:lambda:local:000000000000:function:rft",
    memory_limit_in_mb="0",
    aws_request_id="rft",
    log_group_name="rft",
    log_stream_name="rft",
    get_remaining_time_in_millis=lambda: _LONGEST_MS,
)
"""The attributes of AWS's context that code reads. A grade has `grader.timeout_s`, not AWS's longest time."""


def event_of(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The samples of these completions; the id of each is its place among them."""
    return [_sample(place, item) for place, item in enumerate(items)]


def _sample(place: int, item: Item) -> dict[str, Any]:
    row = {key: value for key, value in item.example.items() if key not in _PROMPTS}
    is_text = isinstance(item.prompt, str)
    asked = [{"role": "user", "content": item.prompt}] if is_text else list(item.prompt or ())
    if item.reference is not None:
        row.setdefault("reference_answer", item.reference)
    own = row.get("metadata")
    known = (
        dict(own)
        if isinstance(own, dict)
        else {key: value for key, value in row.items() if key != "metadata"}
    )
    if "reference_answer" in row:
        known.setdefault("reference_answer", row["reference_answer"])
    messages = [*asked, {"role": "assistant", "content": item.completion}]
    return {**row, "id": str(place), "messages": messages, "metadata": known}


def scores_of(value: Any, count: int) -> list[Any]:
    """What the function returned, in the order of the samples: a reward with components, or why there is none."""
    if isinstance(value, dict) and "body" in value:  # as a web endpoint answers
        value = json.loads(value["body"]) if isinstance(value["body"], str) else value["body"]
    if isinstance(value, dict) and "aggregate_reward_score" in value:
        value = [value]
    if not isinstance(value, list | tuple):
        raise BadValue(f"returned {type(value).__name__}, and AWS's functions return a list of scores")
    entries = [vars(entry) if hasattr(entry, "aggregate_reward_score") else entry for entry in value]
    if len(entries) == count and not any(isinstance(entry, dict) and "id" in entry for entry in entries):
        return [_score(entry) for entry in entries]
    by_id = {str(entry.get("id")): entry for entry in entries if isinstance(entry, dict)}
    return [_score(by_id.get(str(place))) for place in range(count)]


def _score(entry: Any) -> Any:
    """As a scorer's own return value; text where it is none, which is refused as such."""
    if not isinstance(entry, dict):
        return "no score with this sample's id"
    if "aggregate_reward_score" not in entry:
        return "no aggregate_reward_score"
    metrics = entry.get("metrics_list")
    parts = {
        str(metric["name"]): metric.get("value")
        for metric in (metrics if isinstance(metrics, list) else ())
        if isinstance(metric, dict) and "name" in metric
    }
    return {**parts, "reward": entry["aggregate_reward_score"]}
