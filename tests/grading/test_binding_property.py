"""Any signature of one to five parameters is bound as docs/graders.md says, or refused as it says.

What the page says is written down here a second time, without a look at the code: the two must agree.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from rft_cli.grading.pool.binding import SignatureProblem, bind
from rft_cli.grading.shape import reference_in, shape_of_row
from rft_cli.grading.worker.arguments import Call, sample_of
from rft_cli.grading.worker.messages import Item
from rft_cli.grading.worker.signature import callee_of

ONE = ("completion", "solution_str", "prediction", "response", "output", "text", "generated_text")
MANY = (*(f"{name}s" for name in ONE), "queries")
ROWS = ("example", "item", "row", "examples", "items", "rows")
SAMPLES = ("sample", "samples")
PROMPTS = ("prompt", "prompts")
REFERENCES = ("ground_truth", "target", "label", "labels", "reference", "solution", "expected")
VERLS = {"data_source": "", "extra_info": {}}
TRLS = ("completion_ids", "trainer_state", "log_metric", "log_extra")
STRANGE = ("rubric", "k", "foo", "event", "context")
FREE_KEYS = ("answer", "question", "level")
NAMES = (*ONE, *MANY, *ROWS, *SAMPLES, *PROMPTS, *REFERENCES, *VERLS, *TRLS, "metadata", *STRANGE, *FREE_KEYS)
KEYS = (
    *FREE_KEYS,
    "output",
    "text",
    "target",
    "label",
    "prompt",
    "item",
    "metadata",
    "data_source",
    "sample",
    "texts",
)
MARK = object()


class P(NamedTuple):
    name: str
    default: bool
    by_name: bool


@st.composite
def signatures(draw: st.DrawFn) -> tuple[str, list[P], bool, dict[str, Any]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    made = [P(name, draw(st.booleans()), draw(st.sampled_from((False, False, True)))) for name in names]
    # Python's own order: without a default, with one, then those that are passed by name alone.
    made.sort(key=lambda p: (p.by_name, p.default and not p.by_name))
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=5))
    row = {key: f"value of {key}" for key in keys}
    name = draw(st.sampled_from(("score", "score", "compute_score", "score_batch", "lambda_handler")))
    return name, made, draw(st.booleans()), row


def function_of(name: str, parameters: list[P], rest: bool) -> Any:
    parts: list[str] = []
    for p in parameters:
        if p.by_name and "*" not in parts:
            parts.append("*")
        parts.append(f"{p.name}=MARK" if p.default else p.name)
    parts += ["**rest"] if rest else []
    given_back = ", ".join(f"{p.name!r}: {p.name}" for p in parameters)
    scope: dict[str, Any] = {"MARK": MARK}
    exec(f"def {name}({', '.join(parts)}):\n return {{{given_back}}}{', rest' if rest else ', {}'}", scope)
    return scope[name]


class Said(NamedTuple):
    """What the page promises: values of parameters, or `refused`, the words that the refusal holds."""

    batch: bool = False
    values: dict[str, Any] | None = None
    refused: str = ""


def reference_of_row(row: dict[str, Any]) -> Any:
    """The data page: output, answer, then reference_answer and its kind."""
    order = (
        "output",
        "answer",
        "reference_answer",
        "ground_truth",
        "reference",
        "solution",
        "target",
        "label",
    )
    return next((row[key] for key in order if key in row), None)


def first_of(names: tuple[str, ...], parameters: list[P], row: dict[str, Any]) -> str | None:
    there = [name for name in names if name in {p.name for p in parameters}]
    sure = [n for n in there if n not in row or n in ("completion", "completions")]
    return (sure or there or [None])[0]


def said(name: str, parameters: list[P], rest: bool, row: dict[str, Any], item: Item) -> Said:
    two = len(parameters) == 2 and not any(p.by_name for p in parameters)
    if two and (name == "lambda_handler" or [p.name for p in parameters] == ["event", "context"]):
        return Said(True, None)
    completion = first_of((*ONE, *MANY), parameters, row)
    whole = first_of(ROWS, parameters, row)
    for chosen, names, what in ((completion, (*ONE, *MANY), "completion"), (whole, ROWS, "example")):
        others = [
            p
            for p in parameters
            if p.name in names and p.name != chosen and p.name not in row and not p.default
        ]
        if others:
            return Said(refused=f"which both mean the {what}")
    values: dict[str, Any] = {}
    if completion is not None:
        values[completion] = f"asked{item.completion}" if completion == "queries" else item.completion
    if whole is not None:
        values[whole] = row
    sample = [p for p in parameters if p.name in SAMPLES and not (completion is not None and p.name in row)]
    if sample:
        values[sample[0].name] = sample_of(item)
        if len(sample) > 1 and not sample[1].default:
            return Said(refused="both mean the sample")
        if len(sample) > 1:
            values[sample[1].name] = MARK
    known = set(values)
    for p in parameters:
        if p.name in values:
            continue
        if p.name in row:
            values[p.name] = row[p.name]
        elif p.default and p.name not in (*PROMPTS, "metadata", "completion_ids"):
            values[p.name] = MARK
        elif p.name in PROMPTS:
            values[p.name] = "asked"
        elif p.name in REFERENCES and reference_of_row(row) is not None:
            values[p.name] = reference_of_row(row)
        elif p.name in VERLS:
            values[p.name] = VERLS[p.name]
        elif p.name == "metadata":
            values[p.name] = item.metadata
        elif p.name == "completion_ids":
            values[p.name] = item.ids
        elif p.name == "trainer_state":
            values[p.name] = None
        elif p.name in ("log_metric", "log_extra"):
            values[p.name] = callable
        else:
            continue
        if values[p.name] is not MARK and not (p.default and p.name in row):
            known.add(p.name)
    return positions(name, parameters, rest, row, item, values, known, completion)


def positions(
    name: str,
    parameters: list[P],
    rest: bool,
    row: dict[str, Any],
    item: Item,
    values: dict[str, Any],
    known: set[str],
    completion: str | None,
) -> Said:
    left = [p.name for p in parameters if p.name not in values]
    free = [p.name for p in parameters if p.name in left and not p.by_name and p.name not in REFERENCES]
    sampled = [n for n in values if n in SAMPLES and n in known and values[n] == sample_of(item)]
    ids = "completion_ids" in known and "completion_ids" not in row
    if completion is None and not sampled and not ids and free:
        values[free[0]] = item.completion
        if not known and len(free) == 2:
            values[free[1]] = row
    elif len(free) == 1 and known == set(sampled) and sampled:
        values[free[0]] = row
    left = [p.name for p in parameters if p.name not in values]
    if left:
        return Said(refused=f"requires {', '.join(map(repr, left))}, which rft has no value for")
    by_position = any(values[n] == item.completion for n in values if n not in (*ONE, *MANY))
    plural = [n for n in (completion, *sampled) if n is not None]
    if name == "score_batch":
        batch = True
    elif plural or by_position:
        batch = any(n in (*MANY, "samples") for n in plural)
    else:
        batch = bool({"prompts", "completion_ids"} & known)
    seen = completion is not None or sampled or by_position or (ids and batch)
    if not seen and not rest:
        return Said(refused="does not take the completion")
    return Said(batch, values)


@given(signatures())
def test_every_signature_is_bound_as_the_page_says_or_refused(
    case: tuple[str, list[P], bool, dict[str, Any]],
) -> None:
    name, parameters, rest, row = case
    function = function_of(name, parameters, rest)
    item = Item(0, "the text", row, {"truncated": False}, "asked", [1, 2], reference_in(row, {}))
    promised = said(name, parameters, rest, row, item)
    shape = shape_of_row(row, "rows.jsonl:1", {})
    if promised.refused:
        event("refused")
        with pytest.raises(SignatureProblem, match=re.escape(promised.refused)):
            bind(callee_of(function, name), shape)
        return
    binding = bind(callee_of(function, name), shape).binding
    event(binding.dialect)
    assert binding.batch == promised.batch
    defaults = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    call = Call(binding, defaults)
    if promised.values is None:
        events = call.call_batch(function, [item])[0][parameters[0].name]
        assert [(e["id"], e["messages"][-1]["content"]) for e in events] == [("0", "the text")]
        return
    if not binding.batch:
        got, _more = call.call(function, item)
        assert {key: callable if callable(value) else value for key, value in got.items()} == promised.values
        return
    got, _more = call.call_batch(function, [item, item])
    for key, value in promised.values.items():
        once = value is MARK or (key in ("trainer_state", "log_metric", "log_extra") and key not in row)
        expected = value if once else [value, value]
        assert (callable if callable(got[key]) else got[key]) == expected, key
