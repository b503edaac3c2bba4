"""The texts that a grader is tried with before a job: what a model may write, right or not, in several forms."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rft_cli.types import Example, Grade, GradeRequest

JUNK = 'Sure! }{ "answer": ** 1e999, [[ \\boxed{ ``` \u00e9\u4e16\u2028 None, yes and no'
"""What an untrained model may write: no valid JSON, no number, half a code fence, any script."""
_PLAIN = "The answer is {}."
_WORKED = "<think>\nStep by step: {0}.\n</think>\n<answer>{0}</answer>\n\\boxed{{{0}}}\nAnswer: {0}\n#### {0}"
"""The answer in the forms that scorers look for, all in one text."""
_MISSING_KEY = re.compile(r"KeyError: '([^'\\]{1,60})'$")
_MOST_KEYS = 8
_ROWS = 2

TextKind = Literal[
    "reference", "empty completion", "junk completion", "plain sentence", "worked answer", "JSON object"
]


@dataclass(frozen=True, slots=True)
class Trial:
    """One text of a kind, and the row it is graded on."""

    kind: TextKind
    example: Example
    completion: str

    def request(self) -> GradeRequest:
        """What the grader is asked."""
        return GradeRequest(self.completion, self.example.fields, prompt=self.example.prompt)


def first_trials(examples: Sequence[Example], references: Sequence[str | None]) -> list[Trial]:
    """What every job tries: each row's reference (where it has one), an empty and a junk completion."""
    trials = []
    for example, reference in zip(examples, references, strict=True):
        if reference is not None:
            trials.append(Trial("reference", example, reference))
        trials += [Trial("empty completion", example, ""), Trial("junk completion", example, JUNK)]
    return trials


def further_trials(
    examples: Sequence[Example], references: Sequence[str | None], grade: Callable[[Trial], Grade]
) -> Iterator[tuple[Trial, Grade]]:
    """Other forms, tried where none of the first texts was graded: a sentence, a worked answer, and JSON objects.

    The keys that the scorer misses in an object are put into it: `KeyError: 'city'` says what it wants to read.
    """
    for example, reference in list(zip(examples, references, strict=True))[:_ROWS]:
        answer = "yes" if reference is None else reference
        plain = Trial("plain sentence", example, _PLAIN.format(answer))
        worked = Trial("worked answer", example, _WORKED.format(answer))
        yield from ((trial, grade(trial)) for trial in (plain, worked))
        keys, value = ["answer"], _value(answer)
        # 98, and "98"
        for each in (value,) if value == answer else (value, answer):
            while len(keys) <= _MOST_KEYS:
                text = json.dumps(dict.fromkeys(keys, each), ensure_ascii=False)
                trial = Trial("JSON object", example, text)
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
