"""Text for a terminal: numbers, durations, sparklines, and escaped model output."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from rft_cli.types import Estimate

_BARS = "▁▂▃▄▅▆▇█"
# Cc: control characters (ESC among them). Cf: invisible ones, such as those that turn the writing direction.
# Cs: half surrogates, which no stream can write. Co, Cn: private and unassigned.
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn"}


def clean(text: str) -> str:
    """The text without anything that could steer a terminal; line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_safe(char) for char in text.replace("\r\n", "\n").replace("\r", "\n"))


def _safe(char: str) -> str:
    if char in "\n\t":
        return char
    category = unicodedata.category(char)
    # U+2028 and U+2029 break lines too
    if category in ("Zl", "Zp"):
        return "\n"
    return "\N{REPLACEMENT CHARACTER}" if category in _UNSAFE else char


def one_line(text: str, width: int, *, keep_end: bool = False) -> str:
    """The text on one line of at most `width` characters; `keep_end` cuts off the beginning, not the end."""
    flat = " ⏎ ".join(" ".join(line.split()) for line in clean(text).strip().split("\n") if line.strip())
    if len(flat) <= width:
        return flat or "(empty)"
    return "…" + flat[len(flat) - width + 1 :] if keep_end else flat[: width - 1] + "…"


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A number as people read it: fixed decimals below 1,000, whole to a million; scientific far above and below."""
    if value is None:
        return "–"
    plus = "+" if sign else ""
    if 1000 <= abs(value) < 1e6:
        return f"{value:{plus},.0f}"
    if value != 0 and (abs(value) >= 1000 or abs(value) < 0.5 * 10**-digits):
        return f"{value:{plus}.{max(2, digits)}g}"
    return f"{value:{plus}.{digits}f}"


def interval(estimate: Estimate, *, sign: bool = False) -> str:
    """Mean and 95 % interval: `0.412 [0.38, 0.44]`."""
    low, high = estimate.ci95
    return (
        f"{number(estimate.mean, 3, sign=sign)} [{number(low, 2, sign=sign)}, {number(high, 2, sign=sign)}]"
    )


def duration(seconds: float) -> str:
    """`42 s`, `3:05`, or `2:03:05`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def sparkline(values: Sequence[float], width: int) -> str:
    """The course of the values in at most `width` characters and the scale, lowest to highest; equal ones lie flat."""
    if not values:
        return ""
    points = _buckets(values, width)
    low, high = min(points), max(points)
    if high - low < 1e-12:
        return f"{_BARS[0] * len(points)}  {number(low)}"
    drawn = (_BARS[round((point - low) / (high - low) * (len(_BARS) - 1))] for point in points)
    return f"{''.join(drawn)}  {number(low)} … {number(high)}"


def _buckets(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [round(index * len(values) / width) for index in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
