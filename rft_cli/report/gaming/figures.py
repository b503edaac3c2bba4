"""The figures behind the signs: rank correlation, words of a text, how much of one text is in another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"\w+")


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rho, ties at their mean rank; None for fewer than three pairs or where one side is constant."""
    if len(first) < 3:
        return None
    return correlation(_ranks(first), _ranks(second))


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's correlation; None where one side is constant."""
    import numpy as np

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return None
    # Scaled before they are squared: rewards may be as large as floats get.
    a, b = (side / np.abs(side).max() for side in (a, b))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else None


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=lambda place: values[place])
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in order[start : end + 1]:
            ranks[place] = (start + end) / 2
        start = end + 1
    return ranks


def words(text: str) -> set[str]:
    """The different words of a text, in lower case."""
    return set(_WORD.findall(text.lower()))


def shares(texts: Iterable[set[str]]) -> dict[str, float]:
    """Word → share of the texts that it stands in."""
    counts: dict[str, int] = {}
    total = 0
    for found in texts:
        total += 1
        for word in found:
            counts[word] = counts.get(word, 0) + 1
    return {word: count / total for word, count in counts.items()}


def overlap(prompt: str, text: str) -> float:
    """Share of the prompt's different words that stand in the text; 0 for an empty prompt."""
    asked = words(prompt)
    return len(asked & words(text)) / len(asked) if asked else 0.0
