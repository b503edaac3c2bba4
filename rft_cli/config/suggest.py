"""Words of messages: one "did you mean" for every name a person can mistype, names as they are shown, counts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

_LONGEST_NAME = 60


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` most likely stands for, or None when nothing is near."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return names[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The sentence `did you mean 'x'?`, or None when nothing is near."""
    name = closest(word, known)
    return None if name is None else f"did you mean '{name}'?"


def as_word(text: str) -> str:
    """A name out of a file or an environment as messages show it: on one line, visible, and short."""
    word = text if text.isprintable() and text.strip() else repr(text)[1:-1]
    return word if len(word) <= _LONGEST_NAME else word[: _LONGEST_NAME - 1] + "…"


def counted(count: int, word: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"1 {word}" if count == 1 else f"{count:,} {word}s"


def near_file(path: Path, suffixes: tuple[str, ...] = ("",)) -> str:
    """What to do about a file that is not there: the closest name beside it that ends in one of these."""
    if "$" in str(path):
        return "names of variables are not replaced by their values here: write the path out"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.name.endswith(suffixes)]
    except OSError:
        names = []
    name = closest(path.name, names)
    return "check the path" if name is None else f"did you mean '{path.parent / name}'?"
