"""From an example's prompt to text and token ids, in a template and without one."""

from __future__ import annotations

from typing import Any

from rft_cli.training.rollouts.prompts import has_chat_template, training_rows
from rft_cli.types import Example, Source
from tests.training import toys

MESSAGES = [{"role": "system", "content": "w1 w2"}, {"role": "user", "content": "w3"}]
BEGUN = [*MESSAGES, {"role": "assistant", "content": "w4 w5"}]
TEMPLATE = (
    "{% for m in messages %}{{ 'w7 ' if m.role == 'system' else 'w8 ' }}{{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}w9{% endif %}"
)


def example(prompt: Any, fields: dict[str, Any] | None = None, **more: Any) -> Example:
    return Example("a", prompt, fields or {}, Source("train.jsonl", 1), **more)


def test_base_models_get_text() -> None:
    encoder = toys.encoder_of()
    assert encoder.render(example("hello")).text == "hello"
    assert encoder.render(example("w3", system="w1 w2")).text == "w1 w2\n\nw3\n"
    assert encoder.render(example(MESSAGES)).text == "w1 w2\n\nw3\n"
    assert encoder.render(example(BEGUN)).text == "w1 w2\n\nw3\nw4 w5"
    assert encoder.begun(example(BEGUN)) == "w4 w5"


def test_ids_of_a_base_model() -> None:
    tokenizer = toys.tokenizer_of(16)
    assert not has_chat_template(tokenizer)
    found = toys.encoder_of(tokenizer).encode([example("w4 w5"), example(MESSAGES)])
    assert found == [[4, 5], [1, 2, 3]]


def test_ids_of_a_chat_model_end_with_the_generation_prompt_or_the_beginning_of_the_answer() -> None:
    tokenizer = toys.tokenizer_of(16)
    tokenizer.chat_template = TEMPLATE
    assert has_chat_template(tokenizer)
    found = toys.encoder_of(tokenizer).encode([example("w4 w5"), example(MESSAGES), example(BEGUN)])
    assert found == [[8, 4, 5, 9], [7, 1, 2, 8, 3, 9], [7, 1, 2, 8, 3, 8, 4, 5]]


def test_no_rows_no_ids() -> None:
    assert toys.encoder_of().encode([]) == []


def test_training_rows_carry_a_number_and_no_field() -> None:
    rows = training_rows([example("w4", {"answer": "007"}), example(MESSAGES[1:])])
    assert rows.column_names == ["prompt", "row"]
    assert rows["row"][:] == [0, 1]
    assert rows["prompt"][:] == ["w4", "w3"]
