"""How often pages ask for news, so that a dashboard takes next to nothing from a training beside it."""

from __future__ import annotations

QUICK_S, SLOW_S = 2.0, 10.0
"""Seconds between two questions of an open page: of a run or the list; of completions and comparisons."""
SHARE = 0.01
"""The most of one core's time that reading a run again and again may take."""
LONGEST_REST_S = 15.0


def rest(cost_s: float) -> float:
    """Seconds for which a run is not read again, after a reading that took `cost_s` CPU seconds."""
    return min(LONGEST_REST_S, cost_s / SHARE)
