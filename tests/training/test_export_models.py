"""`rft export` over kinds of models and precisions: no sound export refused, no damaged one let through."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    PreTrainedModel,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3Config,
    Qwen3MoeConfig,
    Qwen3NextConfig,
)
from typer.testing import CliRunner

from rft_cli.cli import app
from rft_cli.runs import Run
from rft_cli.training.export import exporter as exporting
from rft_cli.training.export import parts
from tests.training.made_runs import END, PAD, VOCABULARY, run_of, save_base

SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "bos_token_id": None,
    "attention_dropout": 0.1,
}
LINEAR: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
VISION: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "patch_size": 4}
TEXT = {
    "llama": lambda: LlamaConfig(**SIZE),
    "qwen3-tied": lambda: Qwen3Config(**SIZE, tie_word_embeddings=True),
    "gemma2": lambda: Gemma2Config(**SIZE, sliding_window=16),
    "qwen3-moe": lambda: Qwen3MoeConfig(**SIZE, **EXPERTS),
    "qwen3-next": lambda: Qwen3NextConfig(
        **SIZE, **LINEAR, **EXPERTS, shared_expert_intermediate_size=16, decoder_sparse_step=1
    ),
}


@pytest.fixture(autouse=True)
def offline_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_TOKENS", 6)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_COLOR", "1")


def text_model(kind: str) -> Any:
    torch.manual_seed(7)
    return AutoModelForCausalLM.from_config(TEXT[kind]())


def qwen35() -> Any:
    """A model with a vision tower, of which AutoModelForCausalLM loads the text model alone."""
    torch.manual_seed(7)
    vision = {**VISION, "depth": 1, "num_heads": 2, "out_hidden_size": 32, "num_position_embeddings": 16}
    return Qwen3_5ForConditionalGeneration(
        Qwen3_5Config(text_config={**SIZE, **LINEAR}, vision_config=vision, tie_word_embeddings=False)
    )


def gemma3() -> Any:
    """A model with a vision tower, which AutoModelForCausalLM loads whole."""
    torch.manual_seed(7)
    vision = {**VISION, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16}
    return Gemma3ForConditionalGeneration(
        Gemma3Config(text_config={**SIZE, "sliding_window": 16}, vision_config=vision, mm_tokens_per_image=4)
    )


def export(run: Run, target: Path, *flags: str) -> dict[str, Any]:
    """The document of an export that must be done."""
    done = CliRunner().invoke(
        app, ["export", str(run.path), "--to", str(target), "--json", "--quiet", *flags]
    )
    assert done.exit_code == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def refused(run: Run, target: Path, *flags: str) -> str:
    """What an export that must fail says."""
    done = CliRunner().invoke(app, ["export", str(run.path), "--to", str(target), *flags])
    assert done.exit_code == 3, (done.exit_code, done.stderr)
    assert not target.exists()
    return done.stderr


def logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([[5, 17, 23, 42, 8, 61, 3, 30]])
    with torch.no_grad():
        return model.eval().float()(ids).logits  # type: ignore[no-any-return]


# -- no false alarm ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", TEXT)
def test_a_sound_export_is_done(tmp_path: Path, kind: str, dtype: torch.dtype, lora: bool) -> None:
    base = save_base(tmp_path / "base", text_model(kind), dtype)
    run = run_of(tmp_path, base, lora=lora, prompts=(5, 20, 100, 390) if kind == "llama" else (5, 20))
    name = str(dtype).removeprefix("torch.")
    # Trained in full, a checkpoint is in float32; under LoRA the default is the base's own precision.
    document = export(run, tmp_path / "model", *(() if lora else ("--dtype", name)))
    assert document["dtype"] == name
    verified = document["verified"]
    assert verified["relative_difference"] <= verified["tolerance"] == 1e-4
    assert (verified["from_float32"] is None) == (dtype == torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.dtype == dtype
    own, written = (json.loads((path / "config.json").read_text()) for path in (base, tmp_path / "model"))
    assert written == {**own, "dtype": name}
    keys = {path: set(load_file(path / "model.safetensors")) for path in (base, tmp_path / "model")}
    assert keys[base] == keys[tmp_path / "model"]
    assert float((logits(model) - logits(AutoModelForCausalLM.from_pretrained(base))).abs().max()) > 1e-3


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("make", [qwen35, gemma3])
def test_a_model_with_a_vision_tower_comes_out_whole(
    tmp_path: Path, make: Callable[[], Any], dtype: torch.dtype, lora: bool
) -> None:
    base = save_base(tmp_path / "base", make(), dtype)
    (base / "preprocessor_config.json").write_text('{"image_processor_type": "its own"}\n')
    run = run_of(tmp_path, base, lora=lora)
    target = tmp_path / "model"
    export(run, target, *(() if lora else ("--dtype", str(dtype).removeprefix("torch."))))
    whole, loading = AutoModelForImageTextToText.from_pretrained(target, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    before = AutoModelForImageTextToText.from_pretrained(base)
    assert type(whole) is type(before)
    assert whole.dtype == dtype
    changed = {
        name
        for name, weight in whole.state_dict().items()
        if not torch.equal(weight, before.state_dict()[name])
    }
    assert changed
    assert not [name for name in changed if "vis" in name]
    text = AutoModelForCausalLM.from_pretrained(target)
    torch.testing.assert_close(logits(whole), logits(text), rtol=0, atol=1e-4)
    assert float((logits(text) - logits(AutoModelForCausalLM.from_pretrained(base))).abs().max()) > 1e-3
    own, written = (json.loads((path / "config.json").read_text()) for path in (base, target))
    assert written == own
    assert set(load_file(base / "model.safetensors")) == set(load_file(target / "model.safetensors"))
    assert (target / "preprocessor_config.json").read_bytes() == (
        base / "preprocessor_config.json"
    ).read_bytes()


@pytest.mark.parametrize("make", [qwen35, gemma3])
def test_an_adapter_of_a_model_with_a_vision_tower(tmp_path: Path, make: Callable[[], Any]) -> None:
    base = save_base(tmp_path / "base", make())
    run = run_of(tmp_path, base, lora=True)
    export(run, tmp_path / "adapter", "--format", "adapter")
    over = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
    export(run, tmp_path / "merged")
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    torch.testing.assert_close(logits(over), merged, rtol=0, atol=1e-3)


def test_a_class_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", qwen35())
    run = run_of(tmp_path, base, lora=True)
    edit(base / "config.json", architectures=["SomebodysForConditionalGeneration"])
    done = CliRunner().invoke(app, ["export", str(run.path), "--to", str(tmp_path / "model")])
    assert done.exit_code == 2
    assert (
        f"{base} is a SomebodysForConditionalGeneration, of which Qwen3_5ForCausalLM was trained, and rft can't put it "
        "back" in done.stderr
    )
    assert not (tmp_path / "model").exists()
    export(run, tmp_path / "adapter", "--format", "adapter")


# -- the base's own ----------------------------------------------------------------------------------------------------


def edit(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**content, **values}), encoding="utf-8")


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize(
    "own",
    [
        {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "repetition_penalty": 1.1},
        {
            "temperature": 0.6,
            "min_p": 0.1,
            "num_beams": 4,
        },  # transformers loads this one but does not save it
    ],
)
def test_the_generation_config_is_the_base_s_with_the_run_s_stops(
    tmp_path: Path, own: dict[str, Any], lora: bool
) -> None:
    base = save_base(tmp_path / "base", text_model("llama"))
    run = run_of(tmp_path, base, lora=lora)
    (base / "generation_config.json").write_text(json.dumps({**own, "eos_token_id": [END, 9]}))
    export(run, tmp_path / "model")
    written = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    stops = [END, 9] if lora else END  # all weights trained, a checkpoint has those that the run used
    assert written == {**own, "eos_token_id": stops, "pad_token_id": PAD}


def test_a_run_of_a_run_has_the_first_base_s_own_files(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", qwen35())
    edit(base / "generation_config.json", do_sample=True, temperature=0.7)
    first = run_of(tmp_path / "first", base, lora=False)
    second = run_of(tmp_path / "second", first.best_checkpoint() or Path(), lora=True, name=str(first.path))
    export(second, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "generation_config.json").read_text())["temperature"] == 0.7
    assert (
        type(AutoModelForImageTextToText.from_pretrained(tmp_path / "model"))
        is Qwen3_5ForConditionalGeneration
    )


def test_a_checkpoint_outlives_its_base(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", text_model("llama"))
    run = run_of(tmp_path, base, lora=False)
    base.rename(tmp_path / "gone")
    done = CliRunner().invoke(app, ["export", str(run.path), "--to", str(tmp_path / "model")])
    assert done.exit_code == 0, done.stderr
    assert f"{base} is out of reach" in done.stderr
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").dtype == torch.float32


# -- no damage missed --------------------------------------------------------------------------------------------------


def spoil_weights(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Let `spoil` change the weights in the written file."""
    save = PreTrainedModel.save_pretrained

    def spoiled(model: Any, folder: Any, **options: Any) -> None:
        save(model, folder, **options)
        weights = load_file(Path(folder) / "model.safetensors")
        spoil(weights)
        save_file(weights, Path(folder) / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", spoiled)


def spoil_file(monkeypatch: pytest.MonkeyPatch, writer: str, spoil: Callable[[Path], None]) -> None:
    """Let `spoil` change what the function `writer` has written into the draft, its last argument."""
    write = getattr(exporting, writer)

    def spoiled(*args: Any) -> None:
        write(*args)
        spoil(args[-1])

    monkeypatch.setattr(exporting, writer, spoiled)


def one_value(weights: dict[str, torch.Tensor]) -> None:
    """The embedding of a word that no prompt has: no answer shows it."""
    weights["model.embed_tokens.weight"][1279, 0] += 0.01


def one_tensor(weights: dict[str, torch.Tensor]) -> None:
    weights["model.layers.1.mlp.up_proj.weight"].mul_(1.02)


def swapped_layers(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if ".layers.0." in name]:
        other = name.replace(".layers.0.", ".layers.1.")
        weights[name], weights[other] = weights[other], weights[name]


def missing_tensor(weights: dict[str, torch.Tensor]) -> None:
    del weights["model.layers.1.mlp.up_proj.weight"]


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def lora_made(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    return run_of(tmp_path, save_base(tmp_path / "base", text_model("llama"), request.param), lora=True)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (one_value, "1 of its weights differ, the first is model.embed_tokens.weight"),
        (one_tensor, "1 of its weights differ, the first is model.layers.1.mlp.up_proj.weight"),
        (swapped_layers, "reloaded, it answers otherwise"),
        (missing_tensor, "model.layers.1.mlp.up_proj.weight"),
    ],
)
def test_damaged_weights_are_caught(
    lora_made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, named: str
) -> None:
    spoil_weights(monkeypatch, spoil)
    assert named in refused(lora_made, tmp_path / "model")


def test_an_adapter_left_out_is_caught(
    lora_made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PeftModel, "merge_and_unload", lambda model, **_: model.unload(), raising=False)
    said = refused(lora_made, tmp_path / "model")
    # Before a cast the merged weights are asked; without one the reloaded ones are the same.
    assert "merging the adapter changes the model" in said or "reloaded, it answers otherwise" in said


def test_another_configuration_is_caught(
    lora_made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(draft: Path) -> None:
        edit(draft / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 500.0})

    spoil_file(monkeypatch, "save_tokenizer", spoil)
    assert "reloaded, it answers otherwise" in refused(lora_made, tmp_path / "model")


def test_other_stops_are_caught(lora_made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(draft: Path) -> None:
        edit(draft / "generation_config.json", eos_token_id=5)

    spoil_file(monkeypatch, "save_generation_config", spoil)
    assert "ends completions at [5], not at [3]" in refused(lora_made, tmp_path / "model")


def test_another_tokenizer_is_caught(lora_made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(draft: Path) -> None:
        content = json.loads((draft / "tokenizer.json").read_text())
        words = content["model"]["vocab"]
        words.update({word: len(words) - 1 - number for word, number in words.items()})
        (draft / "tokenizer.json").write_text(json.dumps(content))

    spoil_file(monkeypatch, "save_tokenizer", spoil)
    assert "its tokenizer gives other ids" in refused(lora_made, tmp_path / "model")


def test_a_damaged_vision_tower_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path, save_base(tmp_path / "base", qwen35()), lora=True)

    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights[next(name for name in weights if ".visual." in name)].add_(0.001)

    spoil_weights(monkeypatch, spoil)
    assert "1 of its weights differ, the first is model.visual." in refused(run, tmp_path / "model")


def test_a_damaged_adapter_is_caught(lora_made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(draft: Path) -> None:
        weights = load_file(draft / "adapter_model.safetensors")
        del weights[next(iter(weights))]
        save_file(weights, draft / "adapter_model.safetensors", metadata={"format": "pt"})

    spoil_file(monkeypatch, "save_tokenizer", spoil)
    assert "of its weights differ" in refused(lora_made, tmp_path / "adapter", "--format", "adapter")
