"""`--model FILE.gguf`: weights, tokenizer and chat template out of one file, from there on an ordinary model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from rft_cli.commands.job import model_check as naming
from rft_cli.config.schema import ModelConfig
from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.runs.model_hash import base_identity
from rft_cli.runs.model_source import BUILTIN, ModelSource, find_model
from rft_cli.training.models import load_policy, load_tokenizer
from rft_cli.training.stop_tokens import stop_tokens
from tests.faults.jobs import rft_here
from tests.training.conftest import make_run

TINY = BUILTIN / "tiny"
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def write_gguf(file: Path, architecture: str = "llama") -> Path:
    """The model of `llama` with the tokenizer of builtin/tiny in one file, as llama.cpp's converter writes it."""
    model = llama()
    config = model.config
    inner = json.loads((TINY / "tokenizer.json").read_text())
    own = json.loads((TINY / "tokenizer_config.json").read_text())
    writer = gguf.GGUFWriter(str(file), architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    special = {token["id"]: token["content"] for token in inner["added_tokens"]}
    vocabulary = {number: token for token, number in inner["model"]["vocab"].items()} | special
    numbers = range(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([vocabulary[number] for number in numbers])
    writer.add_token_types([3 if number in special else 1 for number in numbers])
    merges = inner["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_chat_template(own["chat_template"])
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        for part, count in heads.items():
            if part in name:  # GGUF has the two halves of a rotation side by side
                wide = values.reshape(count, 2, -1, config.hidden_size)
                values = wide.swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(_name(name), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def llama() -> Any:
    """A tiny random Llama, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=1280, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, eos_token_id=3, pad_token_id=0, bos_token_id=None,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(5)
    return model.eval()


def _name(name: str) -> str:
    whole = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_the_file_is_the_model_and_its_tokenizer(file: Path, tmp_path: Path) -> None:
    config = ModelConfig(path=str(file))
    source = find_model(config.path)
    assert (source, source.is_gguf) == (ModelSource(str(file)), True)
    tokenizer, own = load_tokenizer(config), AutoTokenizer.from_pretrained(TINY)
    turns = [{"role": "user", "content": "Order 7, größer? <|end|>"}]
    assert tokenizer.apply_chat_template(turns) == own.apply_chat_template(turns)
    model: Any = load_policy(source, config, torch.float32)
    assert stop_tokens(model.config, model.generation_config, tokenizer) == [3]
    ids = torch.arange(100, 130).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(ids).logits, llama()(ids).logits, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path)  # refused for what transformers takes for quantized
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())


def test_other_weights_are_another_base(file: Path, tmp_path: Path) -> None:
    """What stands beside the file counts as little as its name."""
    identity = base_identity(str(file), None)
    assert identity is not None
    copy = Path(shutil.copy(file, tmp_path / file.name))
    (tmp_path / "other.json").write_text("{}")
    assert base_identity(str(copy), None) == identity
    content = bytearray(copy.read_bytes())
    content[-5] ^= 1
    copy.write_bytes(content)
    assert base_identity(str(copy), None) != identity


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_job_from_beginning_to_export(lora: bool, file: Path, tmp_path: Path) -> None:
    flags = ("--model", str(file), "--learning-rate", "3e-3", "--set", f"lora.enabled={str(lora).lower()}")
    run = make_run(tmp_path, "job", *flags, "--n-epochs", "1", "--set", "rollout.max_completion_tokens=16")
    assert run.info["model"] == str(file)
    longer = rft_here(tmp_path, "train", "--resume", run.path, "--n-epochs", "2", "--quiet")
    assert longer.code == 0, longer.err
    measured = rft_here(tmp_path, "validate", "--run", run.path, "--json", "--quiet")
    assert measured.code == 0, measured.err
    assert (
        json.loads(measured.out)["validation"]["after"]
        == Run.open(run.path).info["result"]["validation"]["after"]
    )
    step = ("--checkpoint", str(run.checkpoints()[-1]))
    made = rft_here(tmp_path, "export", run.path, *step, "--to", tmp_path / "out", "--json", "--quiet")
    assert made.code == 0, made.err
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(exported).__name__ == "LlamaForCausalLM"
    if lora:
        refused = rft_here(
            tmp_path, "export", run.path, *step, "--format", "adapter", "--to", tmp_path / "adapter"
        )
        assert refused.code == 2
        assert "PEFT can't load" in refused.err


def said(file: Path) -> str:
    """What create says of this model, in one message and with nothing left behind."""
    folder = file.parent
    (folder / "t.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    (folder / "v.jsonl").write_text('{"prompt": "c"}\n')
    (folder / "scorer.py").write_text("def score(completion):\n    return len(completion)\n")
    done = rft_here(
        folder, "create", "-t", "t.jsonl", "-v", "v.jsonl", "--reward-model", "scorer.py", "--model", file
    )
    assert done.code == 2, done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.err
    assert not (folder / "runs").exists() or not list((folder / "runs").iterdir())
    return errors[0]


def test_files_that_are_no_model(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    assert "text.gguf is not a GGUF file, whatever its name says" in said(text)
    named = Path(shutil.copy(file, tmp_path / "model.bin"))
    assert "model.bin is a GGUF file of another name" in said(named)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "cut.gguf' can't be loaded: " in said(cut)
    unknown = write_gguf(tmp_path / "unknown.gguf", architecture="starling9")
    assert "unknown.gguf' can't be loaded: GGUF model with architecture starling9 is not supported" in said(
        unknown
    )
    monkeypatch.setattr(naming, "find_spec", lambda _: None)
    missing = Path(shutil.copy(file, tmp_path / "missing.gguf"))
    assert "reading a GGUF file needs the package gguf" in said(missing)


def test_a_directory_of_gguf_files_names_one(file: Path) -> None:
    with pytest.raises(UsageError, match="holds no model") as caught:
        naming.check_model(str(file.parent))
    assert caught.value.fix == f"name the file: {file}"


def test_a_directory_with_config_and_gguf_is_the_directory(tmp_path: Path, file: Path) -> None:
    folder = Path(shutil.copytree(TINY, tmp_path / "model"))
    shutil.copy(file, folder)
    naming.check_model(str(folder))
    assert find_model(str(folder)) == ModelSource(str(folder))
