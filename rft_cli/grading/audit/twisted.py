"""Completions that weak graders take for right: the reference twisted until it is wrong, and what compares as equal.

A completion that holds the right answer may well be right ("The answer is 12."), so these are clearly wrong: they deny
it, make another number or word of it, or name no answer at all.
"""

from __future__ import annotations

import re

from rft_cli.grading.audit.rows import AuditRow

_NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?")
_PLAIN = re.compile(r"\d[\d,]*(\.\d+)?|[^\W\d_]+")
"""One number without a sign, or one word."""
_SENTENCE = re.compile(r"[^\W\d_]+( [^\W\d_]+)+[.!]?")
_LAST_WHOLE_NUMBER = re.compile(r"(?<![\d.,])\d[\d,]*$")
_MOST = 100
_EQUAL_TO_ALL = "type('T', (float,), {'__eq__': lambda a, b: True, '__hash__': lambda a: 0})(1)"
_MARKS = "Final answer:\n\n```\n```\n<answer></answer>\n\\boxed{}\n####"


def denied_after(row: AuditRow) -> str | None:
    """A text that begins with the reference, calls it wrong, and ends with a wrong one."""
    return None if row.other is None or row.fenced else f"{row.reference} is wrong: it is {row.other}"


def extended(row: AuditRow) -> str | None:
    """The reference with one digit more, where it ends with a whole number: 12 becomes 127."""
    text = row.reference.strip()
    return f"{text}7" if _LAST_WHOLE_NUMBER.search(text) else None


def preceded(row: AuditRow) -> str | None:
    """What ends with the reference and is wrong: 12 becomes 912, spam nonspam, of a sentence the contrary is said."""
    text = row.reference.strip()
    if _PLAIN.fullmatch(text):
        return f"9{text}" if text[0].isdigit() else f"non{text}"
    return f"It is false that {text}" if _SENTENCE.fullmatch(text) else None


def reordered(row: AuditRow) -> str | None:
    """The words of a sentence from the last to the first. Lists, numbers and code may mean the same in any order."""
    words = row.reference.split()
    if len(words) < 4 or any(letter.isdigit() or letter in ",;|{}[]()=" for letter in row.reference):
        return None
    turned = " ".join(words[::-1])
    return None if turned == " ".join(words) else turned


def numbers(row: AuditRow) -> str | None:
    """Every number from 0 to 100, where the reference ends with one of them; that one neither first nor last."""
    found = _LAST_WHOLE_NUMBER.search(row.reference.strip())
    if found is None or (right := int(found[0].replace(",", ""))) > _MOST:
        return None
    start = (right + _MOST // 2) % (_MOST + 1)
    return " ".join(str((start + step) % (_MOST + 1)) for step in range(_MOST + 1))


def not_a_number(row: AuditRow) -> str | None:
    """What `float` reads and every comparison denies, where the reference is a number."""
    return "nan" if _NUMBER.fullmatch(row.reference.strip()) else None


def infinity(row: AuditRow) -> str | None:
    """What `float` reads and is more than any number, where the reference is a number."""
    return "inf" if _NUMBER.fullmatch(row.reference.strip()) else None


def equal_to_all(row: AuditRow) -> str:
    """A Python expression whose value equals everything; it does no harm where it is evaluated."""
    return _EQUAL_TO_ALL


def marks(row: AuditRow) -> str:
    """The marks that answers stand behind or between, without an answer."""
    return _MARKS
