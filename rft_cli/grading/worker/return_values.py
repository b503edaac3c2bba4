"""Reads what a scorer returned, strictly: a finite number, None, or a dict with `reward` (verl: `score`)."""

from __future__ import annotations

import reprlib
from math import isfinite
from numbers import Number
from typing import Any, NamedTuple


class BadValue(Exception):
    """The scorer's return value is no reward; the text says why."""


class Returned(NamedTuple):
    """A return value understood. `reward` None: the scorer skipped this completion."""

    reward: float | None
    components: dict[str, float]


def read_return(value: Any) -> Returned:
    """Reward and components of a scorer's return value; raises BadValue where it is none.

    Of a dict, `reward` (without one `score`, as verl has it) must be a finite number, a bool or None; of its other
    keys those with a finite number or a bool are components, and the others (explanations, lists, NaN) are left out.
    """
    kind = type(value)
    if kind is float and isfinite(value):
        return Returned(value, {})
    if value is None:
        return Returned(None, {})
    if isinstance(value, dict):
        return _read_dict(value)
    return Returned(_number(value), {})


def read_batch(value: Any, count: int) -> list[Any]:
    """The return values of one batch call, still to be read one by one.

    A dict with `rewards` is OpenRLHF's: the lists in its `extra_logs` are components.
    """
    if isinstance(value, dict) and "rewards" in value:
        logs = value.get("extra_logs")
        parts = (
            {name: read_batch(part, count) for name, part in logs.items()} if isinstance(logs, dict) else {}
        )
        rewards = read_batch(value["rewards"], count)
        return [
            {**{str(name): part[place] for name, part in parts.items()}, "reward": reward}
            for place, reward in enumerate(rewards)
        ]
    if not isinstance(value, (list, tuple)):
        as_list = getattr(value, "tolist", None)
        value = as_list() if callable(as_list) else value
    if not isinstance(value, (list, tuple)):
        raise BadValue(
            f"returned {_shown(value)}, but a batch scorer returns a list with one value a completion"
        )
    if len(value) != count:
        raise BadValue(f"returned {len(value)} values for {count} completions")
    return list(value)


def _read_dict(value: dict[Any, Any]) -> Returned:
    name = "reward" if "reward" in value else "score"
    if name not in value:
        keys = ", ".join(repr(key) for key in list(value)[:6] if isinstance(key, str)) or "no names"
        raise BadValue(f"returned a dict without the key 'reward' (it has {keys})")
    if value[name] is None:
        return Returned(None, {})
    reward = _number(value[name], f"{name}: ")
    components: dict[str, float] = {}
    for key, part in value.items():
        if key != name and isinstance(key, str):
            try:
                components[str.__str__(key)] = _number(part)
            except BadValue:
                continue  # an explanation or an unusable part: not a component
    return Returned(reward, components)


def _number(value: Any, place: str = "") -> float:
    if not isinstance(value, Number) and getattr(value, "shape", None) == ():
        value = _item(value)
    if not isinstance(value, Number):
        hint = ": convert it with float(…)" if isinstance(value, str) else ""
        raise BadValue(f"{place}returned {_shown(value)}, which is no number{hint}")
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        raise BadValue(f"{place}returned an integer that is too large for a float") from None
    except Exception as error:
        raise BadValue(f"{place}returned a {type(value).__name__} that is no real number: {error}") from None
    if not isfinite(number):
        raise BadValue(f"{place}returned {number}, which is not finite")
    return number


def _item(value: Any) -> Any:
    """The number in a NumPy scalar, a 0-d array or a 0-d tensor."""
    try:
        return value.item()
    except Exception:
        return value


def _shown(value: Any) -> str:
    """A short picture of any value: its repr may be endless, or raise."""
    try:
        return f"{reprlib.repr(value)} ({type(value).__name__})"
    except Exception:
        return f"a {type(value).__name__}"
