"""pydantic's errors about a spec, in our words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from rft_cli.config.suggest import did_you_mean
from rft_cli.config.yaml_tree import Node
from rft_cli.grading.openai.problems import SpecProblem
from rft_cli.grading.openai.schema import InputMessage, SamplingParams, Spec

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
"""pydantic's kinds of error → what the value must be; a limit's number follows."""


def _fields(kind: type[BaseModel], loc: Sequence[str | int]) -> Iterable[str]:
    """The fields of the model at `loc` inside `kind`."""
    if loc and loc[0] == "sampling_params":
        kind = SamplingParams
    elif loc:
        kind = InputMessage
    return kind.model_fields


def explain(detail: ErrorDetails, kind: type[Spec], at: Node, name: str) -> Iterator[tuple[str, str | None]]:
    """The messages of an error at the node `at`, which the key `name` leads to; each with its fix."""
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
        expected = detail["ctx"]["expected"]
        words = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
        fix = did_you_mean(at.value, words) if isinstance(at.value, str) else None
        yield f"must be {expected} {got}", fix
    elif sort == "string_type":
        yield f"must be text {got}", f'quote it: "{at.word}"' if at.word else None
    else:
        limit = next(iter(detail.get("ctx", {}).values()), None)
        wanted = f"{_WORDS[sort]} {limit:g}" if isinstance(limit, int | float) else _WORDS[sort]
        yield f"must be {wanted} {got}", None
