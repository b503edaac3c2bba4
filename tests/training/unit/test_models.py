"""What `--model` may name, and what is read from a model without its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import GenerationConfig, GPT2Config, Qwen3Config

from rft_cli.config.schema import ModelConfig
from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.runs.model_source import BUILTIN, ModelSource, find_model, tuned_source
from rft_cli.training.models import (
    context_length,
    count_parameters,
    load_config,
    load_model,
    load_tokenizer,
    weights_dtype,
)
from rft_cli.training.stop_tokens import stop_tokens
from tests.training import toys


def adapter_folder(folder: Path, base: str, revision: str | None = None) -> Path:
    folder.mkdir(parents=True)
    config = {"base_model_name_or_path": base, "revision": revision}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def run_with(folder: Path, base: str, adapter: bool | None) -> Run:
    """A run from `base`; `adapter` says what its best checkpoint holds, None that it has none."""
    run = Run.create(folder, "job", config_yaml="seed: 0\n", info={"model": base})
    if adapter is not None:
        partial = run.begin_checkpoint(5)
        name = "adapter_config.json" if adapter else "config.json"
        (partial / name).write_text("{}")
        run.commit_checkpoint(5, partial)
        run.set_best(5)
    return run


# -- names -----------------------------------------------------------------------------------------------------------


def test_the_builtin_model() -> None:
    assert find_model("builtin/tiny") == ModelSource(str(BUILTIN / "tiny"))
    assert (BUILTIN / "tiny" / "config.json").is_file()


def test_hub_ids_and_directories_pass_through(tmp_path: Path) -> None:
    assert find_model("Some/Model-1B") == ModelSource("Some/Model-1B")
    assert find_model(str(tmp_path)) == ModelSource(str(tmp_path))


def test_an_adapter_finds_its_base(tmp_path: Path) -> None:
    adapter = adapter_folder(tmp_path / "adapter", "builtin/tiny")
    assert find_model(str(adapter)) == ModelSource(str(BUILTIN / "tiny"), (adapter,))


def test_an_adapter_on_an_adapter(tmp_path: Path) -> None:
    first = adapter_folder(tmp_path / "first", "Some/Model")
    second = adapter_folder(tmp_path / "second", str(first))
    assert find_model(str(second)) == ModelSource("Some/Model", (first, second))


def test_a_run_is_its_best_checkpoint(tmp_path: Path) -> None:
    lora = run_with(tmp_path / "lora", "Some/Model", adapter=True)
    best = lora.best_checkpoint()
    assert best is not None
    assert find_model(str(lora.path)) == ModelSource("Some/Model", (best,))
    full = run_with(tmp_path / "full", "Some/Model", adapter=False)
    assert find_model(str(full.path)) == ModelSource(str(full.best_checkpoint()))


def test_a_run_that_beat_nothing_is_its_base(tmp_path: Path) -> None:
    run = run_with(tmp_path, "builtin/tiny", adapter=None)
    assert find_model(str(run.path)) == ModelSource(str(BUILTIN / "tiny"))


def test_a_run_of_a_run(tmp_path: Path) -> None:
    first = run_with(tmp_path / "first", "Some/Model", adapter=False)
    second = run_with(tmp_path / "second", str(first.path), adapter=True)
    best = second.best_checkpoint()
    assert best is not None
    assert find_model(str(second.path)) == ModelSource(str(first.best_checkpoint()), (best,))
    assert tuned_source(best, str(first.path)) == find_model(str(second.path))


def test_what_was_trained_on_a_revision_loads_on_it(tmp_path: Path) -> None:
    """Unless another one is asked for; of a directory there is no other."""
    run = run_with(tmp_path / "run", "Some/Model", adapter=True)
    run.update(settings={"model.revision": "abc"})
    best = run.best_checkpoint()
    assert best is not None
    assert find_model(str(run.path)) == ModelSource("Some/Model", (best,), "abc")
    assert find_model(str(run.path), "v2") == ModelSource("Some/Model", (best,), "v2")
    run.set_best(None)
    assert find_model(str(run.path)) == ModelSource("Some/Model", (), "abc")
    adapter = adapter_folder(tmp_path / "adapter", "Some/Model", revision="abc")
    assert find_model(str(adapter)) == ModelSource("Some/Model", (adapter,), "abc")
    assert find_model(str(adapter), "v2") == ModelSource("Some/Model", (adapter,), "v2")
    assert find_model("builtin/tiny", "v2") == ModelSource(str(BUILTIN / "tiny"))


# -- loading ---------------------------------------------------------------------------------------------------------


def test_adapters_are_merged_in_turn(tmp_path: Path) -> None:
    """A changed scorer re-targets a LoRA run, and another one that run's LoRA run."""
    config = ModelConfig(path="builtin/tiny")
    base = load_model(find_model("builtin/tiny"), config, torch.float32)
    expected = {name: p.detach().clone() for name, p in base.named_parameters()}
    named = "builtin/tiny"
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = get_peft_model(
            load_model(find_model(named), config, torch.float32), LoraConfig(r=2, target_modules=["q_proj"])
        )
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, LoraLayer):
                    module.lora_B["default"].weight.normal_()
        for name in expected:
            if name.endswith("q_proj.weight"):
                layer = model.get_submodule("base_model.model." + name.removesuffix(".weight"))
                expected[name] = expected[name] + layer.get_delta_weight("default").detach()
        model.peft_config["default"].base_model_name_or_path = named
        named = str(tmp_path / f"adapter-{seed}")
        model.save_pretrained(named)
    merged = dict(load_model(find_model(named), config, torch.float32).named_parameters())
    for name, weight in expected.items():
        torch.testing.assert_close(merged[name], weight, rtol=0, atol=1e-5)
    assert all(parameter.requires_grad for parameter in merged.values()), "they can all be trained on"


@pytest.mark.parametrize("content", ["{}", "no JSON", "[]", '{"base_model_name_or_path": null}'])
def test_an_adapter_that_names_no_base(tmp_path: Path, content: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"adapter_config\.json: names no base model"):
        find_model(str(tmp_path))


def test_broken_files_are_a_users_error(tmp_path: Path) -> None:
    for file in (BUILTIN / "tiny").iterdir():
        (tmp_path / file.name).write_bytes(
            file.read_bytes()[:1000] if file.suffix == ".safetensors" else file.read_bytes()
        )
    config = ModelConfig(path=str(tmp_path))
    with pytest.raises(UsageError, match="can't be loaded"):
        load_model(find_model(config.path), config, torch.float32)
    for file in tmp_path.glob("*token*"):
        file.unlink()
    with pytest.raises(UsageError, match="has no tokenizer"):
        load_tokenizer(config)


def test_what_is_not_there_is_a_user_error(tmp_path: Path) -> None:
    config = ModelConfig(path=str(tmp_path))
    for load in (load_tokenizer, load_config):
        with pytest.raises(UsageError, match="can't be loaded"):
            load(config)
    with pytest.raises(UsageError, match="can't be loaded") as caught:
        load_model(find_model(str(tmp_path)), config, torch.float32)
    assert len(caught.value.message.splitlines()) == 1


def test_a_tokenizer_without_padding_pads_with_eos(tmp_path: Path) -> None:
    tokenizer = toys.tokenizer_of(16)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(ModelConfig(path=str(tmp_path)))
    assert (loaded.pad_token_id, loaded.padding_side) == (0, "left")


def test_adapters_are_merged_when_they_load(tmp_path: Path) -> None:
    base = tmp_path / "base"
    toys.qwen3(layers=1).save_pretrained(base)
    adapter = tmp_path / "adapter"
    model: Any = get_peft_model(
        toys.qwen3(layers=1), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    model.peft_config["default"].base_model_name_or_path = str(base)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.5)
    model.save_pretrained(adapter)
    loaded: Any = load_model(find_model(str(adapter)), ModelConfig(path=str(adapter)), torch.float32)
    assert not hasattr(loaded, "peft_config") or not any("lora" in n for n, _ in loaded.named_parameters())
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model.eval()(ids).logits, atol=1e-5, rtol=0.0)


def test_attention_and_dtype_are_the_users(tmp_path: Path) -> None:
    toys.qwen3(layers=1).save_pretrained(tmp_path)
    config = ModelConfig(path=str(tmp_path), attention="eager")
    model = load_model(find_model(str(tmp_path)), config, torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"


# -- facts -----------------------------------------------------------------------------------------------------------


def test_weights_dtype_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    assert weights_dtype("auto", lora=True, device=cpu) == torch.float32
    assert weights_dtype("auto", lora=False, device=cpu) == torch.float32
    assert weights_dtype("bfloat16", lora=True, device=cpu) == torch.bfloat16
    assert weights_dtype("bfloat16", lora=False, device=cpu) == torch.float32
    assert weights_dtype("float16", lora=False, device=cpu) == torch.float32


def test_weights_dtype_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert weights_dtype("auto", lora=True, device=gpu) == torch.bfloat16
    assert weights_dtype("auto", lora=False, device=gpu) == torch.float32  # master weights
    # A T4 emulates it.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert weights_dtype("auto", lora=True, device=gpu) == torch.float32


def test_parameters_are_counted_once() -> None:
    assert count_parameters(torch.nn.Linear(3, 4)) == 16


def test_context_length() -> None:
    assert context_length(Qwen3Config(max_position_embeddings=777)) == 777
    assert context_length(GPT2Config(n_positions=555)) == 555


def test_context_length_where_nothing_says_it() -> None:
    class Silent:
        def get_text_config(self) -> Silent:
            return self

    assert context_length(Silent()) == 2048


def test_every_stop_token_once() -> None:
    tokenizer = toys.tokenizer_of(16)
    model = Qwen3Config(eos_token_id=7)
    assert stop_tokens(model, GenerationConfig(eos_token_id=[5, 0]), tokenizer) == [0, 5, 7]
    assert stop_tokens(Qwen3Config(eos_token_id=None), None, tokenizer) == [0]
    tokenizer.eos_token = None
    assert stop_tokens(model, GenerationConfig(), tokenizer) == [7]


# -- ends ------------------------------------------------------------------------------------------------------------


def chat_tokenizer(template: str | None, *special: str, eos: str | None = toys.END) -> Any:
    """The toy tokenizer with these special tokens (16, 17, ...) and this chat template."""
    tokenizer = toys.tokenizer_of(16)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = template
    if eos is None:
        tokenizer.eos_token = None
    return tokenizer


TURNS = "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}CLOSE{% endfor %}"


@pytest.mark.parametrize(
    ("close", "stops"),
    [
        ("<|done|>", [0, 16]),
        ("<|done|>\n", [0, 16]),
        ("\n<|done|>\n", [0, 16]),
        ("<|done|>more", [0, 16]),  # the longer of two that begin alike
        ("<|done|>x<|turn|>", [0, 16]),
        (toys.END, [0]),
        ("\n\n", [0]),
        ("", [0]),
        (" and so on <|done|>", [0]),
    ],
)
def test_what_closes_a_turn_ends_a_completion(close: str, stops: list[int]) -> None:
    tokenizer = chat_tokenizer(TURNS.replace("CLOSE", close), "<|done|>", "<|turn|>", "<|done")
    assert stop_tokens(Qwen3Config(eos_token_id=None), None, tokenizer) == stops


def test_templates_that_close_nothing() -> None:
    refusing = "{{ raise_exception('no assistant, please') }}"
    silent = "{% for m in messages if m.role == 'user' %}{{ m.content }}<|done|>{% endfor %}"
    for template in (None, refusing, silent):
        tokenizer = chat_tokenizer(template, "<|done|>", "<|turn|>")
        assert stop_tokens(Qwen3Config(eos_token_id=None), None, tokenizer) == [0], template


def saved_with(folder: Path, tokenizer: Any, eos_token_id: int | None = None) -> ModelConfig:
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    model = toys.qwen3(layers=1)
    model.config.eos_token_id = model.generation_config.eos_token_id = eos_token_id
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    return ModelConfig(path=str(folder))


def test_a_tokenizer_without_eos_takes_the_templates_end(tmp_path: Path) -> None:
    template = TURNS.replace("CLOSE", "<|done|>\n")
    tokenizer = chat_tokenizer(template, "<|done|>", "<|turn|>", eos=None)
    loaded = load_tokenizer(saved_with(tmp_path, tokenizer, eos_token_id=17))
    assert (loaded.eos_token, loaded.pad_token_id) == ("<|done|>", 16)


def test_a_tokenizer_without_eos_takes_a_special_token_that_the_model_names(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(None, "<|done|>", eos=None)
    loaded = load_tokenizer(saved_with(tmp_path, tokenizer, eos_token_id=16))
    assert loaded.eos_token_id == 16


def test_a_tokenizer_without_any_end(tmp_path: Path) -> None:
    """That the configuration names an ordinary word is the default of its class, not an end."""
    tokenizer = chat_tokenizer(TURNS.replace("CLOSE", "\n"), "<|turn|>", eos=None)
    with pytest.raises(UsageError, match="nothing ends a completion") as caught:
        load_tokenizer(saved_with(tmp_path, tokenizer, eos_token_id=2))
    assert caught.value.fix is not None
    assert "eos_token" in caught.value.fix
