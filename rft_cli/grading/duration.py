"""Seconds as people read them."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """`0.012 ms`, `340 ms`, `1.3 s` or `134 s`: three significant digits."""
    value, unit = (seconds, "s") if seconds >= 0.9995 else (seconds * 1000, "ms")
    return f"{value:.0f} {unit}" if value >= 99.5 else f"{value:.3g} {unit}"
