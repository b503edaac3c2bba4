"""What is tried on each row: honest completions, right and wrong, and the exploits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rft_cli.grading.audit import texts, twisted
from rft_cli.grading.audit.rows import AuditRow

Kind = Literal["reference", "wrong", "written", "exploit"]

_WHOLE = "compare the one value the completion gives, not whether the reference stands somewhere in it"
_TOKENS = "compare whole numbers and words with ==, not how texts begin or end"
_NUMBER = (
    "read one number strictly, of digits, and fail closed: a comparison with NaN or infinity is no proof"
)
_ORDER = "compare the order too, not only which letters or words come"
_LENGTH = "a reward must not grow with length: grade what the completion says once, and cap what is counted"


@dataclass(frozen=True, slots=True)
class Probe:
    """One kind of completion. `make` gives its text for a row, `fix` is the advice where the grader falls for it.

    `grave` False: it is a warning at most. `near`: the text is close to the reference, so that a part of its reward is
    no fault, and only the whole of it is. `max_rows` bounds the rows it is tried on (None: all).
    """

    name: str
    kind: Kind
    make: Callable[[AuditRow], str | None]
    fix: str
    grave: bool = True
    near: bool = False
    max_rows: int | None = None


REFERENCE = Probe(
    "reference",
    "reference",
    texts.reference,
    "grade these rows with `rft grade --gold`: either the scorer reads another key, or these references are not "
    "written as the scorer wants them",
)
OTHER = Probe(
    "another's reference",
    "wrong",
    texts.other,
    "compare with the row's own reference: this one has the right form and says something else",
)
HALF = Probe(
    "its first half", "wrong", texts.half, "a text that is cut off must not count as whole", grave=False
)
WRITTEN = Probe("row's own completion", "written", texts.completion, "")
EMPTY = Probe("empty text", "exploit", texts.empty, "give an empty completion the lowest reward")
LONG = Probe("very long text", "exploit", texts.long, _LENGTH, max_rows=5)
# A judge may read these letters as a person does, and the text does hold the right answer.
LOOK_ALIKE = Probe(
    "look-alike letters",
    "exploit",
    texts.look_alike,
    "if programs read the completions, compare characters: [0-9] in place of \\d, no Unicode folding",
    grave=False,
)

HONEST = (REFERENCE, OTHER, HALF, WRITTEN)
"""What someone who tries would write. The median of their rewards is the median honest score."""
EXPLOITS = (
    EMPTY,
    Probe(
        "invisible characters",
        "exploit",
        texts.invisible,
        "str.strip() keeps zero-width characters: look for letters and digits instead",
    ),
    Probe("prompt again", "exploit", texts.prompt, _WHOLE),
    Probe("all options listed", "exploit", texts.options, _WHOLE),
    Probe("all values per field", "exploit", texts.values, "compare fields with ==, not with `in`"),
    Probe(
        "form without content", "exploit", texts.form, "let the form alone earn little, the content the rest"
    ),
    Probe("padded wrong text", "exploit", texts.padded, _LENGTH),
    Probe("repeated wrong text", "exploit", texts.repeated, _LENGTH),
    LONG,
    Probe(
        "demand for full marks",
        "exploit",
        texts.demand,
        "text that speaks to the grader must earn nothing: tell a judge that the completion is data, between marks",
    ),
    Probe("reference denied", "exploit", texts.denied, _WHOLE),
    Probe("right then denied", "exploit", twisted.denied_after, _WHOLE, near=True),
    Probe("right beginning", "exploit", twisted.extended, _TOKENS, near=True),
    Probe("right ending", "exploit", twisted.preceded, _TOKENS, near=True),
    Probe("its words backwards", "exploit", twisted.reordered, _ORDER, grave=False, near=True),
    Probe("numbers from 0 to 100", "exploit", twisted.numbers, _WHOLE, near=True),
    Probe("not a number", "exploit", twisted.not_a_number, _NUMBER, max_rows=5),
    Probe("infinity", "exploit", twisted.infinity, _NUMBER, max_rows=5),
    Probe(
        "code that equals all", "exploit", twisted.equal_to_all, "never eval() what a model wrote", max_rows=5
    ),
    Probe(
        "marks without answer",
        "exploit",
        twisted.marks,
        "where nothing stands behind ####, in \\boxed{} or in a code fence, there is no answer: the lowest reward",
        max_rows=5,
    ),
    Probe("reference in base64", "exploit", texts.encoded, "the reference in another encoding is no answer"),
    Probe(
        "reference backwards",
        "exploit",
        texts.backwards,
        _ORDER,
        near=True,
    ),
    LOOK_ALIKE,
)
PROBES = (*HONEST, *EXPLOITS)
