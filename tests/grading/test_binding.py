"""What each parameter of a function gets: by name, by key of the row, by position; and what is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from rft_cli.grading.pool.binding import Bound, SignatureProblem, bind
from rft_cli.grading.shape import Shape, reference_in, shape_of_row
from rft_cli.grading.worker.arguments import Call, NoValue, sample_of
from rft_cli.grading.worker.messages import Item
from rft_cli.grading.worker.signature import Callee, callee_of

ROW: dict[str, Any] = {"q": 1}
META = {"truncated": True, "completion_tokens": 3}
ITEM = Item(0, "text", ROW, META, "asked", [5, 6])
SAMPLE = sample_of(ITEM)
GSM8K = {"question": "1 + 2?", "answer": "1 + 2 = 3\n#### 3"}
VERL = {
    "data_source": "math",
    "prompt": [{"role": "user", "content": "3 x 4?"}],
    "reward_model": {"style": "rule", "ground_truth": 12},
    "extra_info": {"index": "0"},
}


def returns_arguments(parameters: str, name: str = "score", body: str = "") -> Callable[..., Any]:
    names = [part.split("=")[0].strip() for part in parameters.split(",")]
    names = [name.split(":")[0].lstrip("*") for name in names if name not in ("", "*", "/")]
    scope: dict[str, Any] = {}
    exec(f"def {name}({parameters}):\n {body}\n return dict({', '.join(f'{n}={n}' for n in names)})", scope)
    return scope[name]


def bound_on(function: Callable[..., Any], row: dict[str, Any], name: str = "score") -> Bound:
    return bind(callee_of(function, name), shape_of_row(row, "train.jsonl:1", {}))


def called(parameters: str, row: dict[str, Any], name: str = "score", body: str = "") -> Any:
    """What a function of these parameters gets for one completion of this row."""
    function = returns_arguments(parameters, name, body)
    binding = bound_on(function, row, name).binding
    assert not binding.batch
    defaults = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    return Call(binding, defaults).call(function, ITEM._replace(example=row, reference=reference_in(row, {})))


def asked_of(row: dict[str, Any]) -> Any:
    return row.get("prompt", row.get("question", "asked"))


def listed(parameters: str, rows: list[dict[str, Any]], name: str = "reward", body: str = "") -> Any:
    """What a batch function gets for a completion of each of these rows, whose prompts are theirs."""
    function = returns_arguments(parameters, name, body)
    binding = bound_on(function, rows[0], name).binding
    assert binding.batch
    items = [
        Item(
            place,
            f"text {place}",
            row,
            {},
            row.get("prompt", row.get("question", "asked")),
            [place],
            reference_in(row, {}),
        )
        for place, row in enumerate(rows)
    ]
    return Call(binding, {}).call_batch(function, items)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("completion", {"completion": "text"}),
        ("answer", {"answer": "text"}),
        ("output, row", {"output": "text", "row": ROW}),
        ("item, response", {"item": ROW, "response": "text"}),
        ("a, b", {"a": "text", "b": ROW}),
        ("example, prediction", {"example": ROW, "prediction": "text"}),
        ("sample, item", {"sample": SAMPLE, "item": ROW}),
        ("sample, x", {"sample": SAMPLE, "x": ROW}),
        ("completion, metadata", {"completion": "text", "metadata": META}),
        ("text, example=None, metadata=None", {"text": "text", "example": ROW, "metadata": META}),
        ("completion, text='mine'", {"completion": "text", "text": "mine"}),
        ("completion, k=3, example=None", {"completion": "text", "k": 3, "example": ROW}),
        ("completion, *, example", {"completion": "text", "example": ROW}),
        ("a, b, /", {"a": "text", "b": ROW}),
        ("k=3, completion=None, /", {"k": 3, "completion": "text"}),
        ("*args", {"args": ("text", ROW)}),
        ("**kwargs", {"kwargs": {"q": 1, "completion": "text", "example": ROW}}),
        ("completion, **kwargs", {"completion": "text", "kwargs": {"q": 1, "example": ROW}}),
        ("completion, *args", {"completion": "text", "args": ()}),
        # A key of the row
        ("completion, q", {"completion": "text", "q": 1}),
        ("q, completion", {"completion": "text", "q": 1}),
        ("completion, q=7", {"completion": "text", "q": 1}),
        ("a, q", {"a": "text", "q": 1}),
        ("completion, *, q, **rest", {"completion": "text", "q": 1, "rest": {"example": ROW}}),
        # Names that say what they are
        ("model_output, label_row", {"model_output": "text", "label_row": ROW}),
        ("prompt, completion, example", {"prompt": "asked", "completion": "text", "example": ROW}),
        ("completion, completion_ids", {"completion": "text", "completion_ids": [5, 6]}),
    ],
)
def test_single(parameters: str, expected: dict[str, Any]) -> None:
    assert called(parameters, ROW) == expected


@pytest.mark.parametrize(
    ("parameters", "row", "expected"),
    [
        ("completion, output", {"output": "gold"}, {"completion": "text", "output": "gold"}),
        ("text, prediction", {"text": "t"}, {"text": "t", "prediction": "text"}),
        ("output, example", {"output": "gold"}, {"output": "text", "example": {"output": "gold"}}),
        ("row, item", {"item": 4, "a": 1}, None),
        ("completion, metadata", {"metadata": {"a": 1}}, {"completion": "text", "metadata": {"a": 1}}),
        ("prediction, target", GSM8K, {"prediction": "text", "target": "3"}),
        ("prediction, target", {"target": 5}, {"prediction": "text", "target": 5}),
        ("y_pred, y_true", GSM8K, {"y_pred": "text", "y_true": "3"}),
        ("student_answer, correct_answer", GSM8K, {"student_answer": "text", "correct_answer": "3"}),
        ("completion, true_label", {"true_label": 5}, {"completion": "text", "true_label": 5}),
        ("completion, target=100", GSM8K, {"completion": "text", "target": 100}),
        ("completion, answer", GSM8K, {"completion": "text", "answer": GSM8K["answer"]}),
        ("completion, prompt", VERL, {"completion": "text", "prompt": VERL["prompt"]}),
        ("completion, prompt: str", VERL, {"completion": "text", "prompt": "asked"}),
        (
            "data_source, solution_str, ground_truth, extra_info=None",
            VERL,
            {"data_source": "math", "solution_str": "text", "ground_truth": 12, "extra_info": {"index": "0"}},
        ),
        (
            "data_source, solution_str, ground_truth, extra_info=None, **kwargs",
            GSM8K,
            {
                "data_source": "",
                "solution_str": "text",
                "ground_truth": "3",
                "extra_info": None,
                "kwargs": {},
            },
        ),
    ],
)
def test_names_before_keys_before_other_names(
    parameters: str, row: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    if expected is None:
        with pytest.raises(SignatureProblem, match="does not take the completion"):
            called(parameters, row)
    else:
        assert called(parameters, row) == expected


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        (
            "score_batch",
            "completions, examples",
            {"completions": ["text 0", "text 1"], "examples": [ROW, {}]},
        ),
        ("score_batch", "a, b", {"a": ["text 0", "text 1"], "b": [ROW, {}]}),
        ("mine", "rows, outputs", {"rows": [ROW, {}], "outputs": ["text 0", "text 1"]}),
        ("my_batch", "texts, *, metadata", {"texts": ["text 0", "text 1"], "metadata": [{}, {}]}),
        (
            "score_batch",
            "completions, **kw",
            {"completions": ["text 0", "text 1"], "kw": {"q": [1, None], "examples": [ROW, {}]}},
        ),
        ("reward", "completions", {"completions": ["text 0", "text 1"]}),
        ("reward", "completions, q", {"completions": ["text 0", "text 1"], "q": [1, None]}),
        (
            "reward_func",
            "queries, prompts, labels",
            None,
        ),
    ],
)
def test_batch(name: str, parameters: str, expected: dict[str, Any] | None) -> None:
    if expected is None:
        with pytest.raises(SignatureProblem, match="requires 'labels', which rft has no value for"):
            listed(parameters, [ROW, {}], name)
    else:
        assert listed(parameters, [ROW, {}], name) == expected


def test_openrlhf_gets_prompt_and_completion_in_one() -> None:
    found = listed("queries, prompts, labels", [GSM8K], "reward_func")
    assert found == {"queries": ["1 + 2?text 0"], "prompts": ["1 + 2?"], "labels": ["3"]}


def test_trl_gets_columns_in_its_keywords() -> None:
    rows = [{"question": "a", "answer": "1"}, {"question": "b", "other": 2}]
    found = listed("completions, **kwargs", rows)
    rest = found.pop("kwargs")
    assert found == {"completions": ["text 0", "text 1"]}
    assert callable(rest.pop("log_metric"))
    assert callable(rest.pop("log_extra"))
    assert rest == {
        "question": ["a", "b"],
        "answer": ["1", None],
        "other": [None, 2],
        "prompts": ["a", "b"],
        "completion_ids": [[0], [1]],
        "trainer_state": None,
    }


def test_trl_without_a_name_for_the_completions() -> None:
    found = listed("**kwargs", [GSM8K], body="kwargs['completions']")
    assert found["kwargs"]["completions"] == ["text 0"]
    assert listed("prompts, **kwargs", [GSM8K])["kwargs"]["completions"] == ["text 0"]


MESSAGE = [[{"role": "assistant", "content": "text 0"}]]
READS = "[c[0]['content'] for c in completions]"


@pytest.mark.parametrize(
    ("row", "body", "completions", "prompts", "note"),
    [
        (VERL, READS, MESSAGE, [VERL["prompt"]], ""),
        (VERL, "pass", ["text 0"], ["3 x 4?"], "completions are given as text"),
        (VERL, "isinstance(completions[0], list)", MESSAGE, [VERL["prompt"]], ""),
        (
            GSM8K,
            READS,
            MESSAGE,
            [[{"role": "user", "content": "1 + 2?"}]],
            "completions are given as messages",
        ),
        (GSM8K, "pass", ["text 0"], ["1 + 2?"], ""),
        ({"content": "c"}, "kwargs['content']", ["text 0"], ["asked"], ""),
    ],
)
def test_trl_messages_where_the_function_reads_them(
    row: dict[str, Any], body: str, completions: Any, prompts: Any, note: str
) -> None:
    found = listed("prompts, completions, **kwargs", [row], body=body)
    assert (found["completions"], found["prompts"]) == (completions, prompts)
    notes = bound_on(returns_arguments("prompts, completions, **kwargs", body=body), row).notes
    assert [n for n in notes if n.startswith(note)] == list(notes)
    assert bool(notes) == bool(note)


def test_helpers_that_read_messages_are_seen() -> None:
    scope: dict[str, Any] = {}
    exec(
        "def text(c): return c[-1].get('content')\ndef f(completions, **kw): return [text(c) for c in completions]",
        scope,
    )
    assert bound_on(scope["f"], GSM8K).binding.messages


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("", "does not take the completion"),
        ("k=1", "does not take the completion"),
        ("example", "does not take the completion"),
        ("metadata", "does not take the completion"),
        ("a, b, c", "requires 'b', 'c', which rft has no value for"),
        ("completion, example, rubric", "requires 'rubric', which rft has no value for"),
        ("completion, rubric", "requires 'rubric', which rft has no value for"),
        ("completion, *, rubric", "requires 'rubric', which rft has no value for"),
        ("reference, completion", "requires 'reference', which rft has no value for"),
        ("completion, output", "has 'completion' and 'output', which both mean the completion"),
        ("q", "does not take the completion"),
        ("messages", "requires 'messages', which rft has no value for"),
        ("messages, ground_truth=None, **kwargs", "requires 'messages', which rft has no value for"),
        ("student_answer, correct_answer", "requires 'correct_answer', which rft has no value for"),
        ("ground_truth", "requires 'ground_truth', which rft has no value for"),
        ("completions, environments", "requires 'environments', which rft has no value for"),
    ],
)
def test_refused(parameters: str, message: str) -> None:
    with pytest.raises(SignatureProblem) as caught:
        called(parameters, ROW)
    assert str(caught.value).startswith(message)
    if "no value" in message:
        assert str(caught.value).endswith("(train.jsonl:1 has the keys 'q')")


def test_without_rows_only_what_no_row_could_mend_is_wrong() -> None:
    for parameters, mendable in [
        ("completion, rubric", True),
        ("a, b, c", True),
        ("k=1", False),
        ("", False),
    ]:
        with pytest.raises(SignatureProblem) as caught:
            bind(callee_of(returns_arguments(parameters), "score"), Shape())
        assert caught.value.rows_may_help is mendable


@pytest.mark.parametrize(
    ("parameters", "row", "notes"),
    [
        ("completion, example", ROW, ()),
        ("completion, q", ROW, ()),
        (
            "a, b",
            ROW,
            ("'a' gets the completion and 'b' gets the row: by position, as no name decides",),
        ),
        ("output, example", {"output": 1}, ("'output' gets the completion, and not the rows' key 'output'",)),
        ("solution_str, ground_truth", VERL, ()),
        (
            "solution_str, ground_truth",
            GSM8K,
            ("'ground_truth' gets the row's reference: train.jsonl:1 has no key 'ground_truth'",),
        ),
        ("completion, label_row", ROW, ("'label_row' gets the whole row, by its name",)),
    ],
)
def test_what_is_guessed_is_said(parameters: str, row: dict[str, Any], notes: tuple[str, ...]) -> None:
    assert bound_on(returns_arguments(parameters), row).notes == notes


def test_a_row_without_the_key_that_is_required() -> None:
    function = returns_arguments("completion, q")
    call = Call(bound_on(function, ROW).binding, {})
    with pytest.raises(NoValue, match="the row has no key 'q', which the function requires"):
        call.call(function, ITEM._replace(example={}))


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


def test_a_callable_that_has_no_code_of_python() -> None:
    assert callee_of(len, "len") == Callee("len", callee_of(len, "len").parameters, ())
