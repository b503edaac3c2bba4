"""What pydantic says of a spec, in our words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from rft_cli.config.suggest import did_you_mean
from rft_cli.config.yaml_tree import Node
from rft_cli.grading.spec.models import InputMessage, SamplingParams, Spec
from rft_cli.grading.spec.problems import SpecProblem

_NUMBER = re.compile(r"\d+")
_WORDS = {
    "list_type": "a list",
    "mapping_type": "an object",
    "dict_type": "an object",
    "model_type": "an object",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "greater_than": "above",
    "greater_than_equal": "at least",
    "less_than_equal": "at most",
}
"""pydantic's kinds of error in our words; those of limits stand before the number."""


def _fields(kind: type[BaseModel], loc: Sequence[str | int]) -> Iterable[str]:
    """The fields of the model at `loc` inside `kind`."""
    if loc and loc[0] == "sampling_params":
        kind = SamplingParams
    elif loc:
        kind = InputMessage
    return kind.model_fields


def told(detail: ErrorDetails, kind: type[Spec], at: Node, name: str) -> Iterator[tuple[str, str | None]]:
    """What an error says, each with its fix."""
    error = detail.get("ctx", {}).get("error")
    if isinstance(error, SpecProblem):
        for problem in (error, *error.more):
            yield problem.message, problem.fix
        return
    sort = detail["type"]
    shown = json.dumps(at.plain(), ensure_ascii=False)
    got = f"(got {shown if len(shown) <= 40 else shown[:37] + '...'})"
    if sort == "missing":
        yield "is missing", None
    elif sort == "too_short":
        yield "is empty", "name at least one"
    elif sort == "extra_forbidden":
        known = list(_fields(kind, detail["loc"][:-1]))
        yield "unknown field", did_you_mean(name, known) or f"known here: {', '.join(known)}"
    elif sort == "literal_error":
        words = [word.strip("'") for word in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        yield f"must be {detail['ctx']['expected']} {got}", _guess(at.value, words)
    elif sort == "string_type":
        yield f"must be text {got}", f'quote it: "{at.word}"' if at.word else None
    else:
        limit = next(iter(detail.get("ctx", {}).values()), None)
        told = f"{_WORDS[sort]} {limit:g}" if isinstance(limit, int | float) else _WORDS[sort]
        yield f"must be {told} {got}", None


def _guess(word: Any, known: Iterable[str]) -> str | None:
    """The "did you mean" of a word; none where only a number in it is another: that is no slip of the pen."""
    if not isinstance(word, str) or _NUMBER.sub("", word) in [_NUMBER.sub("", name) for name in known]:
        return None
    return did_you_mean(word, known)
