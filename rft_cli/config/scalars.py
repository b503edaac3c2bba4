"""What an unquoted YAML word means here: YAML 1.2's rules, because 1.1's surprise people.

PyYAML follows YAML 1.1: it reads `1e-5` as text, `no` as false, `12:30:45` as 45045, `010` as 8 and
`2026-01-01` as a date. Here `1e-5` is a number and the others stay text; where a setting is a truth value,
`yes`, `no`, `on` and `off` are taken as people mean them (see `layers.py`).
"""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

YES_NO = {
    "yes": True,
    "on": True,
    "y": True,
    "no": False,
    "off": False,
    "n": False,
}
"""Truth values of YAML 1.1 that YAML 1.2 reads as text, in lower case."""

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MOST_DIGITS = 400


def plain(text: str) -> Scalar:
    """The value of an unquoted word."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) > _MOST_DIGITS or _LEADING_ZERO.fullmatch(text):
        return text
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "").lower())
    return text


def means_itself(text: str) -> bool:
    """Whether unquoted `text` is read as that text, by us and by YAML 1.1."""
    return text.isprintable() and plain(text) == text and text.lower() not in YES_NO
