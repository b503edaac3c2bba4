"""Why a row is refused, and key names in that message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class BadRow(Exception):
    """A row that has no usable prompt: the reason, and what to do."""

    def __init__(self, reason: str, fix: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


def keys_of(row: Mapping[str, Any]) -> str:
    """`the keys 'a', 'b' and 3 more`."""
    if not row:
        return "no keys"
    names = [short(key) for key in row]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"the {'key' if len(names) == 1 else 'keys'} {', '.join(names[:8])}{more}"


def quoted(names: Iterable[str]) -> str:
    """`'a' and 'b'`."""
    return " and ".join(f"'{name}'" for name in names)


def short(value: object) -> str:
    """A value, cut to a short length."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
