"""Models that can't be trained here, each refused in one message with nothing left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from rft_cli.runs.model_source import BUILTIN
from tests.cli.conftest import GOOD, write_jsonl

SMALL = ("--n-epochs", "1", "--set", "grader.workers=1", "--set", "rollout.max_completion_tokens=8")


@pytest.fixture
def model(files: Path) -> Path:
    """A copy of builtin/tiny, to be spoiled."""
    return Path(shutil.copytree(BUILTIN / "tiny", files / "model"))


def change(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file; None takes one out."""
    values = {**json.loads(file.read_text()), **fields}
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def refused(rft, model: Path, *flags: str) -> str:
    """The one message with which create and `validate --model` end."""
    said = []
    create = ("create", *GOOD, "--model", str(model), *SMALL, *flags)
    validate = ("validate", *GOOD, "--model", str(model), "--set", "rollout.max_completion_tokens=8")
    for command in (create, validate):
        done = rft(*command)
        assert done.code == 2, done.err
        assert done.out == ""
        assert "Traceback" not in done.err
        said.append([line for line in done.err.splitlines() if line.startswith("error: ")])
        assert not Path("runs").exists() or not list(Path("runs").iterdir())
    assert said[0] == said[1]
    assert len(said[0]) == 1, said
    return said[0][0]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("t5", "is an encoder-decoder; rft trains causal language models"),
        ("bart", "is an encoder-decoder"),
        ("bert", "is an encoder: it fills gaps in a text"),
        ("roberta", "is an encoder"),
        ("modernbert", "is an encoder"),
        ("qwen2_5_vl", "is a multimodal model: transformers has no causal language model for it"),
        ("mistral3", "is a multimodal model"),
        ("vit", "is a model of another kind"),
    ],
)
def test_architectures(rft, files: Path, kind: str, words: str) -> None:
    folder = files / kind
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    save_file({}, folder / "model.safetensors")
    message = refused(rft, folder)
    assert f"({kind})" in message
    assert words in message


def test_a_checkpoint_without_its_head(rft, model: Path) -> None:
    change(model / "config.json", tie_word_embeddings=False)
    assert f"model '{model}' lacks weights: its files hold no lm_head.weight" in refused(rft, model)


def test_a_checkpoint_without_a_layer(rft, model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if ".layers.2." not in name}
    save_file(kept, model / "model.safetensors", metadata={"format": "pt"})
    message = refused(rft, model)
    assert "its files hold no model.layers.2.input_layernorm.weight, " in message
    assert f"and {len(weights) - len(kept) - 3} more" in message


def test_a_template_that_refuses_a_role(rft, model: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}<|user|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
    )
    change(model / "tokenizer_config.json", chat_template=template)
    turns = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1 + 1"}]
    plain = {"messages": turns[1:], "output": "2"}
    write_jsonl(
        Path("train.jsonl"),
        [plain, {"messages": turns, "output": "2"}, plain, {"messages": turns, "output": "2"}],
    )
    message = refused(rft, model, "--set", "grader.audit=none")
    assert (
        "train.jsonl:2 (and 1 more row): the model's chat template refuses a prompt of system, user"
        in message
    )
    assert "System role not supported" in message


def test_a_tokenizer_without_an_end(rft, model: Path) -> None:
    change(model / "tokenizer_config.json", eos_token=None, chat_template=None, pad_token=None)
    change(model / "config.json", eos_token_id=None)
    change(model / "generation_config.json", eos_token_id=None)
    assert "nothing ends a completion" in refused(rft, model)


def test_token_ids_beyond_the_embeddings(rft, model: Path) -> None:
    config = json.loads((model / "tokenizer_config.json").read_text())
    file = model / "tokenizer.json"
    inner = json.loads(file.read_text())
    token = {**inner["added_tokens"][0], "id": 1280, "content": "<|more|>"}
    inner["added_tokens"].append(token)
    file.write_text(json.dumps(inner))
    write_jsonl(
        Path("train.jsonl"), [{"task": "Add.", "input": f"{n}<|more|>", "output": "1"} for n in range(6)]
    )
    message = refused(rft, model)
    assert "train.jsonl:1 (and 5 more rows): the prompt holds token 1280 ('<|more|>')" in message
    assert "has embeddings for 1280 tokens" in message
    change(model / "tokenizer_config.json", **{**config, "pad_token": "<|more|>"})
    assert "its tokenizer pads with token 1280 ('<|more|>')" in refused(rft, model)
