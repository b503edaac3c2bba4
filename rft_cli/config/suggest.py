"""Parts of messages: "did you mean", names, counts, line wrapping."""

from __future__ import annotations

import difflib
import os
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

_LONGEST_NAME = 60
_COPIED = re.compile(r"`[^`\n]+`|\b(?:rft|accelerate|pip|hf|export) [^;,()\n]*")
"""Commands that people copy: they are not wrapped."""


def closest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that `word` most likely means, or None if nothing is as near as `cutoff` (1: the same)."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, n=1, cutoff=cutoff)
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


def terminal_width() -> int:
    """Columns of the terminal that standard error is, or as COLUMNS says."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def wrapped(text: str, width: int) -> str:
    """The text with lines of at most `width` columns that end between words; a command or a path stays whole."""
    lines = []
    for line in text.split("\n"):
        if len(line) <= width:
            lines.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip())]
        held = _COPIED.sub(lambda found: found[0].replace(" ", "\xa0"), line)
        parts = textwrap.wrap(
            held,
            max(width, 20),
            subsequent_indent=indent + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [part.replace("\xa0", " ") for part in parts]
    return "\n".join(lines)


def near_file(path: Path, suffixes: tuple[str, ...] = ("",)) -> str:
    """What to do about a missing file: the closest name in its folder that ends in one of `suffixes`."""
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
