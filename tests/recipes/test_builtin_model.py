"""The embedded model: loads, reads any text, stops, and can be built again."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from recipes.build_tiny import build
from recipes.measure import load_scorer, measure, prompt

ROOT = Path(__file__).parents[2]
TINY = ROOT / "rft_cli" / "builtin" / "tiny"
TEXTS = (
    "plain text",
    "two  spaces\n\n\ttab ",
    "emoji 😀🏳️‍🌈",
    "中文字符和标点。",
    "\x00\x01\x7f\r\n",
    "café e\u0301 ß Ω",
    "don 't , stop . !",
    "order 48213",
    "\u202eright to left \u05d0",
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(TINY)


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_round_trips(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_each_digit_is_one_token(tokenizer: PreTrainedTokenizerBase) -> None:
    assert [token for token in tokenizer.tokenize("order 48213.") if token.isdigit()] == list("48213")


def test_the_prompt_ends_with_the_assistant_tag_and_is_short(tokenizer: PreTrainedTokenizerBase) -> None:
    for split in ("train", "val", "test"):
        for line in (ROOT / "sample_data" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
            text = prompt(tokenizer, json.loads(line))
            assert text.endswith("<|assistant|>")
            assert len(tokenizer(text)["input_ids"]) <= 80
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_folder_is_small_and_the_weights_are_tied(model: PreTrainedModel) -> None:
    assert sum(file.stat().st_size for file in TINY.iterdir()) <= 8_000_000
    assert model.config.architectures == ["Qwen3ForCausalLM"]
    assert model.config.tie_word_embeddings
    assert 0.8e6 <= model.num_parameters() <= 1.3e6


def test_it_is_a_believable_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """It stops by itself, earns something, and is far from done."""
    lines = (ROOT / "sample_data" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:48]]
    score = load_scorer(ROOT / "sample_data" / "scorer.py")
    result = measure(model, tokenizer, rows, score, temperature=1.0, k=4)
    assert 0.12 <= result["reward"] <= 0.5
    assert 0.02 <= result["all_correct"] <= 0.35


def test_generation_stops_at_the_end_token(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    ids = tokenizer(
        "<|user|>How urgent is this message?\n\nNo rush.<|end|><|assistant|>", return_tensors="pt"
    )
    generate: Any = model.generate
    out = generate(**ids, max_new_tokens=40, do_sample=False)
    assert out[0, -1] == tokenizer.eos_token_id
    assert out.shape[1] < ids["input_ids"].shape[1] + 40


def test_the_recipe_builds_a_model_that_loads(tmp_path: Path) -> None:
    build(tmp_path, steps=2, seed=0)
    config = AutoModelForCausalLM.from_pretrained(tmp_path).config
    assert config.architectures == ["Qwen3ForCausalLM"]
    shipped = (TINY / "tokenizer.json").read_bytes()
    assert (tmp_path / "tokenizer.json").read_bytes() == shipped  # the same text gives the same tokenizer
