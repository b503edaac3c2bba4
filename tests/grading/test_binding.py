from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rft_cli.grading.wire.work import Item
from rft_cli.grading.worker.binding import SignatureProblem, bind, sample_of

ROW = {"q": 1}
META = {"truncated": True, "completion_tokens": 3}
ITEM = Item(0, "text", ROW, META)
SAMPLE = sample_of(ITEM)


def returns_arguments(parameters: str) -> Callable[..., Any]:
    names = [
        part.split("=")[0].strip() for part in parameters.split(",") if part.strip() not in ("", "*", "/")
    ]
    names = [name.lstrip("*") for name in names]
    scope: dict[str, Any] = {}
    exec(f"def score({parameters}): return dict({', '.join(f'{n}={n}' for n in names)})", scope)
    return scope["score"]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("completion", {"completion": "text"}),
        ("answer", {"answer": "text"}),
        ("output, row", {"output": "text", "row": ROW}),
        ("item, response", {"item": ROW, "response": "text"}),
        ("a, b", {"a": "text", "b": ROW}),
        ("reference, completion", {"reference": ROW, "completion": "text"}),
        ("example, prediction", {"example": ROW, "prediction": "text"}),
        ("sample, item", {"sample": SAMPLE, "item": ROW}),
        ("sample, x", {"sample": SAMPLE, "x": ROW}),
        ("completion, metadata", {"completion": "text", "metadata": META}),
        ("text, example=None, metadata=None", {"text": "text", "example": ROW, "metadata": META}),
        ("completion, text='mine'", {"completion": "text", "text": "mine"}),
        ("completion, k=3, example=None", {"completion": "text", "k": 3, "example": ROW}),
        ("completion, *, example", {"completion": "text", "example": ROW}),
        ("a, b, /", {"a": "text", "b": ROW}),
        ("*args", {"args": ("text", ROW)}),
        ("**kwargs", {"kwargs": {"completion": "text", "example": ROW}}),
        ("completion, **kwargs", {"completion": "text", "kwargs": {"example": ROW}}),
        ("completion, *args", {"completion": "text", "args": ()}),
    ],
)
def test_single(parameters: str, expected: dict[str, Any]) -> None:
    function = returns_arguments(parameters)
    binding = bind(function, "score")
    assert not binding.batch
    assert binding.call(function, ITEM) == expected


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("score_batch", "completions, examples", {"completions": ["text", "two"], "examples": [ROW, {}]}),
        ("score_batch", "a, b", {"a": ["text", "two"], "b": [ROW, {}]}),
        ("mine", "rows, outputs", {"rows": [ROW, {}], "outputs": ["text", "two"]}),
        ("my_batch", "texts, *, metadata", {"texts": ["text", "two"], "metadata": [META, {}]}),
        ("reward", "completions, **kw", {"completions": ["text", "two"], "kw": {"examples": [ROW, {}]}}),
    ],
)
def test_batch(name: str, parameters: str, expected: dict[str, Any]) -> None:
    function = returns_arguments(parameters)
    binding = bind(function, name)
    assert binding.batch
    assert binding.call_batch(function, [ITEM, Item(1, "two", {}, {})]) == expected


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("", "does not take the completion"),
        ("k=1", "does not take the completion"),
        ("example", "does not take the completion"),
        ("metadata", "does not take the completion"),
        ("a, b, c", "requires 'a', 'b', 'c', which rft has no value for"),
        ("completion, example, rubric", "requires 'rubric', which rft has no value for"),
        ("completion, *, rubric", "requires 'rubric', which rft has no value for"),
        ("completion, output", "has 'completion' and 'output', which both mean the completion"),
    ],
)
def test_refused(parameters: str, message: str) -> None:
    with pytest.raises(SignatureProblem) as caught:
        bind(returns_arguments(parameters), "score")
    assert str(caught.value) == message


def test_without_a_signature() -> None:
    with pytest.raises(SignatureProblem, match="has no signature that Python can read"):
        bind(dict, "score")


def test_openai_sample() -> None:
    assert sample_of(Item(0, '{"a": [1]}', {}, {})) == {
        "output_text": '{"a": [1]}',
        "output_json": {"a": [1]},
        "output_tools": [],
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": '{"a": [1]}'}, "finish_reason": "stop"}
        ],
    }
    assert SAMPLE["output_json"] is None
    assert SAMPLE["choices"][0]["finish_reason"] == "length"
    assert sample_of(Item(0, "NaN", {}, {}))["output_json"] is None
    assert sample_of(Item(0, "[" * 100_000, {}, {}))["output_json"] is None
