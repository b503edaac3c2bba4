"""What an engine is given: templates that make it read and answer as rft does."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer

from rft_cli.config import RunConfig
from rft_cli.runs.model_source import BUILTIN
from rft_cli.training.response_template import give_response_template
from rft_cli.training.rollouts.prompts import PromptEncoder
from rft_cli.training.served_model import plain_template
from rft_cli.types import Example, Source


@pytest.fixture
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(BUILTIN / "tiny")


@pytest.mark.parametrize("shipped", [True, False])
@pytest.mark.parametrize("completion", ['{"team": "billing"}', " two lines\n\nand blanks \n"])
def test_transformers_finds_the_completion_alone(tokenizer: Any, completion: str, shipped: bool) -> None:
    if not shipped:
        tokenizer.response_template = None
        give_response_template(tokenizer, "qwen3", [tokenizer.eos_token_id])
    for end in ("<|end|>", ""):
        ids = tokenizer(f"{completion}{end}")["input_ids"]
        found = tokenizer.parse_response(ids, prefix="<|user|>Hi<|end|><|assistant|>")
        assert found["content"] == completion


def test_it_is_left_alone_where_transformers_is_right(tokenizer: Any) -> None:
    tokenizer.response_template = None
    give_response_template(tokenizer, "llama", [3])
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}{% endfor %}<|im_start|>assistant"
    )
    give_response_template(tokenizer, "qwen3", [3])
    assert tokenizer.response_template is None


@pytest.mark.parametrize("begin", ["", "<|pad|>"])
def test_a_base_model_reads_messages_as_in_the_run(tokenizer: Any, begin: str) -> None:
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    tokenizer.chat_template = None
    example = Example("1", messages, {}, Source("x", 1))
    plain = PromptEncoder.of(tokenizer, RunConfig()).render(example).text
    tokenizer.chat_template = plain_template(begin)
    served = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert served == begin + plain
    assert plain == "Be brief.\n\nHi\n"
