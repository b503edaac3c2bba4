"""`rft export`: what it writes loads in plain transformers and is the run's model; anything else is not left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from typer.testing import CliRunner

from rft_cli.cli import app
from rft_cli.config.schema import ModelConfig
from rft_cli.runs import Run, exports
from rft_cli.runs.model_source import find_model, tuned_source
from rft_cli.training.export import exporter as exporting
from rft_cli.training.export import verify
from rft_cli.training.export.compare import GreedyCompletions, distance
from rft_cli.training.models import load_model
from tests.command import environment
from tests.training.toys import qwen3

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "rft_cli" / "builtin" / "tiny"
TEXT = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"}
ABOUT = {"README.md", "rft-export.json"}


@dataclass
class Result:
    code: int
    out: str
    err: str


def rft(*args: object) -> Result:
    found = CliRunner().invoke(app, [str(arg) for arg in args], prog_name="rft")
    return Result(found.exit_code, found.stdout, found.stderr)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("RFT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_COLOR", "1")


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    ids = tokenizer("A customer waits for order 12345.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model.eval()(ids).logits.float()  # type: ignore[no-any-return]


def as_rft_loads(run: Run) -> Any:
    best = run.best_checkpoint()
    assert best is not None
    return load_model(tuned_source(best, run.info["model"]), ModelConfig(), torch.float32)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# -- what is exported --------------------------------------------------------------------------------------------------


def test_merged_weights_of_full_fine_tuning(full_run: Run, tmp_path: Path) -> None:
    target = tmp_path / "new" / "model"
    done = rft("export", full_run.path, "--to", target)
    assert done.code == 0, done.err
    assert files(target) == TEXT | ABOUT | {"config.json", "model.safetensors"}
    tokenizer, model = AutoTokenizer.from_pretrained(target), AutoModelForCausalLM.from_pretrained(target)
    mine = logits(model, tokenizer)
    assert torch.equal(mine, logits(as_rft_loads(full_run), tokenizer))
    assert not torch.allclose(mine, logits(AutoModelForCausalLM.from_pretrained(TINY), tokenizer), atol=1e-2)
    size = sum(path.stat().st_size for path in target.iterdir())
    assert done.out.splitlines()[:3] == [
        f"exported  step {full_run.info['best_step']} of {full_run.path}: merged, float32",
        f"path      {target}",
        f"size      {size / 1e6:.1f} MB",
    ]
    assert "8 of 8 greedy completions equal\n          largest logit difference 0 " in done.out
    assert f"AutoModelForCausalLM.from_pretrained('{target}')" in done.out
    assert "next      rft serve " in done.out
    assert {path.stat().st_mode for path in target.iterdir()} == {(target / "README.md").stat().st_mode}
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_merged_weights_of_lora_and_the_document(lora_run: Run, tmp_path: Path) -> None:
    target = tmp_path / "model"
    done = rft("export", lora_run.path, "--to", target, "--json", "--quiet")
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    verified = document.pop("verified")
    assert document == {
        "schema": "rft.export/1",
        "run": str(lora_run.path),
        "checkpoint": lora_run.info["best_step"],
        "format": "merged",
        "dtype": "float32",
        "path": str(target),
        "bytes": sum(path.stat().st_size for path in target.iterdir()),
        "regraded": None,
        "pushed": None,
    }
    assert 0 < verified["max_logit_difference"] < 1e-3
    assert verified["relative_difference"] < verified["tolerance"] == 1e-4
    assert (verified["prompts"], verified["completions_equal"]) == (8, 8)
    assert (verified["compared_with"], verified["from_float32"]) == ("the checkpoint", None)
    assert json.loads((target / "rft-export.json").read_text())["verified"] == verified
    assert files(target) == TEXT | ABOUT | {"config.json", "model.safetensors"}
    tokenizer, model = AutoTokenizer.from_pretrained(target), AutoModelForCausalLM.from_pretrained(target)
    torch.testing.assert_close(
        logits(model, tokenizer), logits(as_rft_loads(lora_run), tokenizer), rtol=1e-4, atol=1e-4
    )
    assert model.generation_config.eos_token_id == 3
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert prompt == "<|user|>Hi<|end|><|assistant|>"
    assert json.loads((target / "tokenizer_config.json").read_text())["tokenizer_class"] == (
        "PreTrainedTokenizerFast"
    )


def test_adapter_alone(lora_run: Run, tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    done = rft("export", lora_run.path, "--format", "adapter", "--to", target)
    assert done.code == 0, done.err
    assert files(target) == TEXT | ABOUT | {"adapter_config.json", "adapter_model.safetensors"}
    weights = load_file(target / "adapter_model.safetensors")
    assert not [name for name in weights if "critic" in name]
    config = json.loads((target / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["inference_mode"]) == (str(TINY), True)
    tokenizer = AutoTokenizer.from_pretrained(target)
    expected = logits(as_rft_loads(lora_run), tokenizer)
    base = AutoModelForCausalLM.from_pretrained(TINY)
    over = PeftModel.from_pretrained(base, target)
    torch.testing.assert_close(logits(over, tokenizer), expected, rtol=1e-4, atol=1e-4)
    by_name = AutoPeftModelForCausalLM.from_pretrained(target)
    torch.testing.assert_close(logits(by_name, tokenizer), expected, rtol=1e-4, atol=1e-4)
    assert "PeftModel.from_pretrained(base" in done.out
    assert find_model(str(target)).base == str(TINY)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_cast_is_compared_with_the_cast_model(lora_run: Run, tmp_path: Path, dtype: str) -> None:
    target = tmp_path / "half"
    done = rft("export", lora_run.path, "--to", target, "--dtype", dtype)
    assert done.code == 0, done.err
    model = AutoModelForCausalLM.from_pretrained(target)
    assert model.dtype == getattr(torch, dtype)
    assert {tensor.dtype for tensor in load_file(target / "model.safetensors").values()} == {model.dtype}
    record = json.loads((target / "rft-export.json").read_text())
    assert record["verified"]["compared_with"] == f"the checkpoint, cast to {dtype}"
    assert record["verified"]["tolerance"] == 1e-4
    assert record["verified"]["relative_difference"] <= 1e-4
    assert record["verified"]["from_float32"]["absolute"] > 1e-3
    assert f"{dtype} against float32: " in done.out
    tokenizer = AutoTokenizer.from_pretrained(target)
    expected = logits(as_rft_loads(lora_run), tokenizer)
    assert float((logits(model, tokenizer) - expected).abs().max()) < 0.02 * float(expected.abs().max())


def test_adapter_in_half_the_bytes(lora_run: Run, tmp_path: Path) -> None:
    done = rft(
        "export",
        lora_run.path,
        "--to",
        tmp_path / "half",
        "--format",
        "adapter",
        "--dtype",
        "bfloat16",
        "--json",
    )
    assert done.code == 0, done.err
    verified = json.loads(done.out)["verified"]
    assert verified["relative_difference"] <= verified["tolerance"] == 1e-4
    assert verified["from_float32"]["absolute"] > 0
    whole = (lora_run.best_checkpoint() or Path()) / "adapter_model.safetensors"
    half = tmp_path / "half" / "adapter_model.safetensors"
    assert half.stat().st_size < 0.6 * whole.stat().st_size


def test_default_place_step_by_number_and_latest(full_run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "runs" / "copy"
    shutil.copytree(full_run.path, copy, symlinks=True)
    (tmp_path / "runs" / "copy" / "run.json").write_text(
        json.dumps({**full_run.info, "status": "running"}), encoding="utf-8"
    )
    done = rft("export", "latest", "--output-dir", tmp_path / "runs")
    assert done.code == 0, done.err
    assert (copy / "export" / "merged" / "model.safetensors").is_file()
    assert "is still running" in done.err
    step = full_run.checkpoints()[0]
    again = rft("export", copy, "--checkpoint", f"step-{step}", "--force", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["checkpoint"] == step
    assert files(copy / "export") == {"merged"} | {
        f"merged/{name}" for name in files(copy / "export" / "merged")
    }


def test_the_export_has_the_reward_of_the_run(full_run: Run, tmp_path: Path) -> None:
    assert rft("export", full_run.path, "--to", tmp_path / "model", "--quiet").code == 0
    done = rft("validate", full_run.path / "config.yaml", "--model", tmp_path / "model", "--json", "--quiet")
    assert done.code == 0, done.err
    assert json.loads(done.out)["validation"] == full_run.info["result"]["validation"]["after"]


# -- the model card ----------------------------------------------------------------------------------------------------


def card_code(folder: Path) -> str:
    card = (folder / "README.md").read_text(encoding="utf-8")
    return card.split("```python\n")[1].split("```")[0]


def test_model_card_says_what_was_gained_and_its_code_runs(
    lora_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("merged", "adapter"):
        assert rft("export", lora_run.path, "--to", tmp_path / kind, "--format", kind, "--quiet").code == 0
    card = (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
    measured = lora_run.info["result"]["validation"]
    for name in ("before", "after"):
        low, high = measured[name]["ci95"]
        assert f"{measured[name]['mean']:.3f} [{low:.3f}, {high:.3f}]" in card
    assert f"{measured['difference']['mean']:+.3f} [" in card
    assert card.startswith("---\nlibrary_name: peft\n")
    assert "base_model:" not in card  # the hub would look for it there
    assert "comes with the package `rft-cli`" in card
    monkeypatch.chdir(tmp_path / "adapter")
    names: dict[str, Any] = {}
    exec(card_code(tmp_path / "adapter"), names)
    assert isinstance(names["answer"], str)
    assert names["output"].shape[1] > names["prompt"]["input_ids"].shape[1]
    adapter = logits(names["model"], names["tokenizer"])
    monkeypatch.chdir(tmp_path / "merged")
    exec(card_code(tmp_path / "merged"), names)
    torch.testing.assert_close(logits(names["model"], names["tokenizer"]), adapter, rtol=1e-4, atol=1e-4)


# -- what is caught ----------------------------------------------------------------------------------------------------


def refused(done: Result, target: Path, *words: str) -> None:
    assert done.code == 3, done.err
    assert done.out == ""
    for word in words:
        assert word in done.err
    assert "Traceback" not in done.err
    assert not target.exists()
    assert [path for path in target.parent.iterdir() if path.name.startswith(".new-")] == []


def damage_saved(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> None:
    """Let `change` spoil the model between the in-memory copy and the disk."""
    save = PreTrainedModel.save_pretrained

    def spoiled(model: Any, *args: Any, **options: Any) -> None:
        with torch.no_grad():
            change(model)
        save(model, *args, **options)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", spoiled)


def test_changed_weights_are_caught(full_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage_saved(monkeypatch, lambda model: model.model.layers[2].mlp.up_proj.weight[7].add_(0.3))
    done = rft("export", full_run.path, "--to", tmp_path / "model")
    refused(done, tmp_path / "model", "reloaded, it answers otherwise", "(allowed 1e-04)", "nothing was left")


def test_an_adapter_that_was_not_merged_is_caught(
    lora_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PeftModel, "merge_and_unload", lambda model, **_: model.unload(), raising=False)
    done = rft("export", lora_run.path, "--to", tmp_path / "model")
    refused(done, tmp_path / "model", "reloaded, it answers otherwise")


def test_wrong_precision_on_disk_is_caught(
    full_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_saved(monkeypatch, lambda model: model.to(torch.bfloat16))
    done = rft("export", full_run.path, "--to", tmp_path / "model")
    refused(done, tmp_path / "model", "of its weights differ")


def test_overflow_is_named(full_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = exporting.complete

    def overflowing(model: Any, *args: Any) -> GreedyCompletions:
        if model.dtype == torch.float16:
            with torch.no_grad():
                model.model.norm.weight.mul_(1e6)
        return ask(model, *args)

    monkeypatch.setattr(exporting, "complete", overflowing)
    done = rft("export", full_run.path, "--to", tmp_path / "model", "--dtype", "float16")
    refused(done, tmp_path / "model", "does not fit into float16")


def test_other_tokens_and_other_stops_are_caught(
    full_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = exporting.save_tokenizer

    def other_template(tokenizer: Any, draft: Path) -> None:
        save(tokenizer, draft)
        (draft / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "save_tokenizer", other_template)
        done = rft("export", full_run.path, "--to", tmp_path / "model")
    refused(done, tmp_path / "model", "its tokenizer gives other ids")

    def other_stop(own: Any, settings: Any, draft: Path) -> None:
        (draft / "generation_config.json").write_text('{"eos_token_id": 5}')

    monkeypatch.setattr(exporting, "save_generation_config", other_stop)
    done = rft("export", full_run.path, "--to", tmp_path / "model")
    refused(done, tmp_path / "model", "generation_config.json ends completions at [5], not at [3]")


def test_a_full_disk_leaves_nothing(full_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    done = rft("export", full_run.path, "--to", tmp_path / "model")
    refused(done, tmp_path / "model", "No space left on device")


def test_a_failed_replacement_keeps_the_old_export(
    full_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    assert rft("export", full_run.path, "--to", target, "--quiet").code == 0
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    damage_saved(monkeypatch, lambda model: model.model.embed_tokens.weight.zero_())
    assert rft("export", full_run.path, "--to", target, "--force").code == 3
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_interrupted_replacement_keeps_the_old_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    for content in ("first", "second"):
        with exports.staged(target, replace=True) as draft:
            (draft / exports.MARKER).write_text(content)
    assert (target / exports.MARKER).read_text() == "second"
    rename = os.rename

    def interrupted(source: Path, destination: Path) -> None:
        if destination == target and not source.name.endswith("-old"):
            raise KeyboardInterrupt
        rename(source, destination)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), exports.staged(target, replace=True) as draft:
        (draft / exports.MARKER).write_text("third")
    assert (target / exports.MARKER).read_text() == "second"
    assert files(tmp_path) == {"model", "model/rft-export.json"}


def test_sigterm_removes_what_is_half_made(full_run: Run, tmp_path: Path) -> None:
    wait = (
        "import os, time\n"
        "from transformers import PreTrainedModel\n"
        "def save(*args, **options):\n"
        "    os.write(2, b'SAVING\\n')\n"  # a signal in a flush of sys.stderr would have it written once more
        "    time.sleep(60)\n"
        "PreTrainedModel.save_pretrained = save\n"
        "from rft_cli.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", wait, "export", str(full_run.path), "--to", str(tmp_path / "model")],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line == "SAVING\n":
            break
    assert [path.name.startswith(".new-model-") for path in tmp_path.iterdir()] == [True]
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert said == "error: interrupted by SIGTERM\n"
    assert list(tmp_path.iterdir()) == []


# -- what can't be asked for -------------------------------------------------------------------------------------------


@pytest.fixture
def unlucky(tmp_path: Path) -> Run:
    """A run of two checkpoints in which nothing beat the base; its weights are no weights."""
    run = Run.create(tmp_path, "unlucky", config_yaml="{}\n", info={"model": "builtin/tiny"})
    for step in (4, 8):
        partial = run.begin_checkpoint(step)
        (partial / "model.safetensors").write_bytes(b"weights")
        run.commit_checkpoint(step, partial)
    return run


def usage(*args: object) -> tuple[str, str]:
    """The message and the fix of a command that must end with code 2."""
    done = rft("export", *args)
    assert done.code == 2, done.err
    assert done.out == ""
    message, fix = done.err.strip().splitlines()[-2:]
    return message.removeprefix("error: "), fix.removeprefix("  fix: ")


def test_refusals_about_checkpoints(unlucky: Run) -> None:
    path = unlucky.path
    assert usage(path) == (
        f"nothing beat the base model in {path}: its best model is the base, unchanged",
        "use the base, or export a checkpoint all the same with --checkpoint 8",
    )
    assert usage(path, "--checkpoint", "5") == (
        f"{path} has no checkpoint '5'",
        "take best or one of: 4, 8",
    )
    assert usage(path, "--checkpoint", "last")[0] == f"{path} has no checkpoint 'last'"
    assert usage(path, "--checkpoint", "4", "--format", "adapter") == (
        f"{path} has no adapter: all weights were trained, so what was learned is spread over them",
        "export the whole model with --format merged",
    )
    (unlucky.checkpoint_path(4) / "model.safetensors").write_bytes(b"weighty")
    assert usage(path, "--checkpoint", "4") == (
        f"checkpoint 4 of {path} is damaged: {path}/checkpoints/step-4/model.safetensors has changed since it was "
        "written (SHA-256 differs)",
        "restore the file, or take another one with --checkpoint: 8",
    )
    shutil.rmtree(unlucky.checkpoint_path(8))
    assert usage(path, "--checkpoint", "4")[1] == (
        "there is no other checkpoint; restore the file, or train again"
    )
    shutil.rmtree(unlucky.checkpoint_path(4))
    assert usage(path) == (
        f"{path} has no checkpoint: there is nothing to export",
        f"its status is 'created'; train it with `rft train --resume {path}`",
    )


def test_refusals_about_words(unlucky: Run) -> None:
    assert usage(unlucky.path, "--format", "mergd") == (
        "--format 'mergd' is not known",
        "did you mean 'merged'?",
    )
    assert usage(unlucky.path, "--dtype", "int4")[1] == "take one of: float32, bfloat16, float16"
    assert usage("nowhere", "--output-dir", unlucky.path.parent)[0] == "nowhere is not a run"


def test_refusals_about_the_target(unlucky: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(target: object, *flags: str) -> tuple[str, str]:
        return usage(unlucky.path, "--checkpoint", "4", "--to", target, *flags)

    precious = tmp_path / "precious"
    precious.mkdir()
    monkeypatch.chdir(precious)
    assert ask(".")[0] == f"{precious} is the directory you are in"
    (precious / "thesis.tex").write_text("years of work")
    monkeypatch.chdir(tmp_path)
    assert ask("precious") == (
        f"{precious} exists and is not empty",
        "choose another --to DIR, or replace it with --force",
    )
    assert ask(precious, "--force") == (
        f"{precious} was not made by `rft export` (it has no rft-export.json): --force does not delete it",
        "choose another --to DIR",
    )
    assert (precious / "thesis.tex").read_text() == "years of work"
    for below in ("thesis.tex", "thesis.tex/model/1"):
        assert ask(precious / below)[0] == f"{precious / 'thesis.tex'} is a file"


def test_a_target_that_cannot_be_made(full_run: Run) -> None:
    assert usage(full_run.path, "--to", "/proc/nothing/model") == (
        "cannot make /proc/nothing/model: No such file or directory",
        "choose another --to DIR",
    )


def test_a_target_that_somebody_else_fills_meanwhile(
    full_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"

    def fill(_: Any) -> None:
        target.mkdir()
        (target / "theirs").write_text("")

    damage_saved(monkeypatch, fill)
    assert usage(full_run.path, "--to", target)[0] == f"cannot make {target}: Directory not empty"
    assert files(tmp_path) == {"model", "model/theirs"}


def test_an_adapter_over_a_merged_adapter_stays_at_home(lora_run: Run, tmp_path: Path) -> None:
    """A LoRA run that began with a LoRA run: whole weights come out, an adapter fits no model that others have."""
    second = Run.create(
        tmp_path,
        "second",
        config_yaml=f"model: {{path: {lora_run.path}}}\nlora: {{enabled: true}}\n",
        info={"model": str(lora_run.path)},
    )
    partial = second.begin_checkpoint(1)
    best = lora_run.best_checkpoint()
    assert best is not None
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(best / name, partial)
    second.commit_checkpoint(1, partial)
    second.set_best(1)
    second.write_samples("step-000000", lora_run.read_samples("step-000000"))
    message, fix = usage(second.path, "--format", "adapter")
    assert message == (
        f"{second.path} began with {lora_run.path}, an adapter that was merged into its base: the new adapter fits "
        "that merged model alone"
    )
    assert fix == "export whole weights with --format merged"
    done = rft("export", second.path, "--to", tmp_path / "model")
    assert done.code == 0, done.err
    # The same adapter twice: base + 2 delta.
    name = "model.layers.0.mlp.up_proj.weight"
    base = AutoModelForCausalLM.from_pretrained(TINY).state_dict()[name]
    once = as_rft_loads(lora_run).state_dict()[name]
    twice = load_file(tmp_path / "model" / "model.safetensors")[name]
    torch.testing.assert_close(twice - base, 2 * (once - base), rtol=1e-3, atol=1e-6)
    assert "its reward was not measured" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_refusals_load_no_torch(unlucky: Run) -> None:
    code = (
        "import sys\nfrom rft_cli.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n"
        "    print('CODE', end.code, 'TORCH', 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "export", str(unlucky.path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "CODE 2 TORCH False\n"


# -- comparing ---------------------------------------------------------------------------------------------------------


def answers(*pairs: tuple[list[int], list[list[float]]]) -> GreedyCompletions:
    return GreedyCompletions([ids for ids, _ in pairs], [torch.tensor(rows) for _, rows in pairs])


def test_distance_by_hand() -> None:
    first = answers(
        ([1, 2, 0], [[0.0, 4.0, 1.0], [0.0, 1.0, 2.0], [5.0, 0.0, 0.0]]), ([0], [[3.0, 1.0, -8.0]])
    )
    # They part at the second token: what comes after it is no longer the same text and is not compared.
    other = answers(([1, 1], [[0.0, 4.5, 1.0], [0.0, 2.0, 1.75]]), ([0], [[3.0, 1.0, -8.0]]))
    found = distance(first, other)
    assert (found.prompts, found.equal, found.absolute, found.relative) == (2, 1, 1.0, 0.125)
    same = distance(first, first)
    assert (same.equal, same.absolute, same.relative) == (2, 0.0, 0.0)


def test_distance_with_ruled_out_tokens_nan_and_another_vocabulary() -> None:
    barred = answers(([0], [[2.0, float("-inf")]]))
    assert distance(barred, barred).relative == 0.0
    assert barred.finite
    nan = answers(([0], [[2.0, float("nan")]]))
    assert distance(barred, nan).relative == float("inf")
    assert not nan.finite
    assert distance(barred, answers(([0], [[2.0, 1.0, 0.0]]))).absolute == float("inf")
    longer = answers(([0, 1], [[2.0, float("-inf")], [1.0, 1.0]]))
    assert (distance(barred, longer).equal, distance(barred, longer).absolute) == (0, 0.0)


@pytest.mark.parametrize(("free", "moved"), [(2**40, ["cuda"]), (1000, [])])
def test_a_model_goes_to_the_gpu_only_where_it_fits(
    monkeypatch: pytest.MonkeyPatch, free: int, moved: list[str]
) -> None:
    model = qwen3()
    went: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, free))
    monkeypatch.setattr(model, "to", lambda device: (went.append(device), model)[1])
    assert verify.placed(model.train()) is model
    assert went == moved
    assert not model.training
