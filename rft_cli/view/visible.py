"""Model output is hostile text: control characters are shown as escapes, long texts are cut and say so."""

from __future__ import annotations

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Control, format (direction marks too), half surrogates, private, unassigned; separators that break lines."""


def visible(text: str, most: int | None = None) -> str:
    """The text with what can't be seen as its escape (`\\x1b`, `\\u202e`); line breaks and tabs stay.

    At most `most` characters of it, then how many are left out.
    """
    left = 0 if most is None else len(text) - most
    if left > 0:
        text = text[:most]
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_shown, text.replace("\r\n", "\n")))
    return f"{text} … ({left:,} more characters)" if left > 0 else text


def _shown(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) not in _HIDDEN:
        return char
    return char.encode("unicode_escape").decode("ascii")


def title(text: str, most: int = 100) -> str:
    """The text on one line, its beginning where it is long."""
    flat = " ".join(visible(text[: 4 * most]).split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


def ending(text: str, most: int = 90) -> str:
    """The end of the text on one line: prompts of a task often begin alike."""
    flat = " ".join(visible(text[-4 * most :]).split())
    return flat if len(flat) <= most and len(text) <= 4 * most else f"…{flat[-most:]}"
