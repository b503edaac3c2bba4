"""Escapes a job's names and texts for Markdown."""

from __future__ import annotations

import re

_MARKS = re.compile(r"[\\`*_\[\]|~<>&$]")
_CODE_LENGTH = re.compile(r"`+")


def prose(text: str) -> str:
    """The text within a sentence, a heading or a cell of a table: no mark, link or HTML of its own."""
    return _MARKS.sub(lambda mark: _escaped(mark.group()), _visible(text))


def code(text: str) -> str:
    """The text as a code span, also in a cell of a table."""
    shown = _visible(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in _CODE_LENGTH.findall(shown)), default=0))
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def _escaped(mark: str) -> str:
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(mark, "\\" + mark)


def _visible(text: str) -> str:
    """On one line, with invisible characters escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text) or " "
