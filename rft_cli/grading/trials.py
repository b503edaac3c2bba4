"""The texts that a grader is tried with before a job: what a model may write, right or not, in several forms."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rft_cli.types import Example, Grade

JUNK = 'Sure! }{ "answer": ** 1e999, [[ \\boxed{ ``` \u00e9\u4e16\u2028 None, yes and no'
"""What an untrained model may write: no valid JSON, no number, half a code fence, any script."""
_PLAIN = "The answer is {}."
_WORKED = "<think>\nStep by step: {0}.\n</think>\n<answer>{0}</answer>\n\\boxed{{{0}}}\nAnswer: {0}\n#### {0}"
"""The answer in the forms that scorers look for, all in one text."""
_MISSING_KEY = re.compile(r"KeyError: '([^'\\]{1,60})'$")
_MOST_KEYS = 8
_ROWS = 2
LOST = ("timeout", "died")
"""Failures of which each further one may cost as long."""
MOST_LOST = 2

Tried = Literal[
    "reference", "empty completion", "junk completion", "plain sentence", "worked answer", "JSON object"
]


@dataclass(frozen=True, slots=True)
class Trial:
    """One text, the row it is graded on, and what it is called."""

    tried: Tried
    example: Example
    completion: str


def first_trials(examples: Sequence[Example], references: Sequence[str | None]) -> list[Trial]:
    """What every job tries: each row's reference (where it has one), an empty and a junk completion."""
    trials = []
    for example, reference in zip(examples, references, strict=True):
        if reference is not None:
            trials.append(Trial("reference", example, reference))
        trials.append(Trial("empty completion", example, ""))
        trials.append(Trial("junk completion", example, JUNK))
    return trials


def further_trials(
    examples: Sequence[Example], references: Sequence[str | None], grade: Callable[[Trial], Grade]
) -> Iterator[tuple[Trial, Grade]]:
    """Other forms, tried where none of the first texts was graded: a sentence, a worked answer, and JSON objects.

    The keys that the scorer misses in an object are put into it: `KeyError: 'city'` says what it wants to read.
    """
    for example, reference in list(zip(examples, references, strict=True))[:_ROWS]:
        said = "yes" if reference is None else reference
        for trial in (
            Trial("plain sentence", example, _PLAIN.format(said)),
            Trial("worked answer", example, _WORKED.format(said)),
        ):
            yield trial, grade(trial)
        keys, meant = ["answer"], _value(said)
        for value in (meant,) if meant == said else (meant, said):  # 98, and "98"
            while len(keys) <= _MOST_KEYS:
                trial = Trial(
                    "JSON object", example, json.dumps(dict.fromkeys(keys, value), ensure_ascii=False)
                )
                found = grade(trial)
                yield trial, found
                missing = None if found.error is None else _MISSING_KEY.search(found.error.message)
                if missing is None or missing[1] in keys:
                    break
                keys.append(missing[1])


def _value(text: str) -> Any:
    """The JSON value that the text spells (98, true, an object), or the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
