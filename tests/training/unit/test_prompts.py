"""From an example's prompt to what TRL takes and to token ids."""

from __future__ import annotations

from typing import Any

from rft_cli.training.rollouts.prompts import (
    LongPrompt,
    encode,
    has_chat_template,
    render,
    too_long,
    training_rows,
)
from rft_cli.types import Example, Source
from tests.training import toys

MESSAGES = [{"role": "system", "content": "w1 w2"}, {"role": "user", "content": "w3"}]
TEMPLATE = (
    "{% for m in messages %}{{ 'w7 ' if m.role == 'system' else 'w8 ' }}{{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}w9{% endif %}"
)


def example(prompt: Any, fields: dict[str, Any] | None = None) -> Example:
    return Example("a", prompt, fields or {}, Source("train.jsonl", 1))


def test_chat_models_get_messages() -> None:
    assert render("hello", True) == [{"role": "user", "content": "hello"}]
    assert render(MESSAGES, True) == MESSAGES


def test_base_models_get_text() -> None:
    assert render("hello", False) == "hello"
    assert render(MESSAGES, False) == "w1 w2\n\nw3\n"


def test_ids_of_a_base_model() -> None:
    tokenizer = toys.tokenizer_of(16)
    assert not has_chat_template(tokenizer)
    assert encode(tokenizer, [example("w4 w5"), example(MESSAGES)]) == [[4, 5], [1, 2, 3]]


def test_ids_of_a_chat_model_end_with_the_generation_prompt() -> None:
    tokenizer = toys.tokenizer_of(16)
    tokenizer.chat_template = TEMPLATE
    assert has_chat_template(tokenizer)
    assert encode(tokenizer, [example("w4 w5"), example(MESSAGES)]) == [[8, 4, 5, 9], [7, 1, 2, 8, 3, 9]]


def test_no_rows_no_ids() -> None:
    assert encode(toys.tokenizer_of(16), []) == []


def test_prompts_without_room_are_named() -> None:
    first, second, third = example("a"), example("b"), example("c")
    found = too_long([first, second, third], [[1] * 10, [1] * 11, [1] * 12], context=15, room=4)
    assert found == [LongPrompt(third, 12)]


def test_training_rows_carry_a_number_and_no_field() -> None:
    rows = training_rows([example("w4", {"answer": "007"}), example(MESSAGES[1:])], toys.tokenizer_of(16))
    assert rows.column_names == ["prompt", "row"]
    assert rows["row"][:] == [0, 1]
    assert rows["prompt"][:] == ["w4", "w3\n"]
