"""A job beside a base in 4 bits: what is trained, how it is resumed, and what is exported."""

import json
import shutil
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

from rft_cli.config.load import load_config
from rft_cli.runs import Run
from rft_cli.runs.model_source import BUILTIN, find_model
from rft_cli.training import quantization
from rft_cli.training.memory_plan.planner import Device, Planner
from rft_cli.training.models import load_policy
from tests.faults import jobs
from tests.faults.outcome import differences, state_of

pytestmark = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed: pip install -e '.[qlora]'"
)
SETTINGS = {
    "lora.quantize": "nf4", "ppo.passes": 1, "ppo.minibatches": 1, "ppo.critic": "mlp", "optim.n_epochs": 1,
    "checkpoint.every_steps": 1, "checkpoint.keep_last": 5, "validation.every_epochs": "auto",
    "validation.every_completions": 8,
}  # fmt: skip
"""One epoch of two rollout batches, each of one step with its checkpoint and validation."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = jobs.make_files(tmp_path_factory.mktemp("qlora"))
    ended = jobs.rft_here(made, *jobs.create_arguments(SETTINGS))
    assert ended.code == 0, ended.err
    assert "LoRA: lora.quantize is nf4" in ended.err
    # 4 bits are counted as the numbers that they stand for
    assert "1.1 M parameters, 155.6 k trained, 2 steps" in ended.err
    return made


def test_the_plan_knows_the_bytes_of_4_bits():
    config = load_config(None, sets=["lora.quantize=nf4", "model.dtype=float32"], env={}).config
    plan = Planner(config, Device("cpu", 10**9), prompt=32, completion=16).plan()
    source = find_model("builtin/tiny")
    model = load_policy(
        source, config.model, torch.float32, quantization.settings_of(config.lora, "float32", source)
    )
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    states = [p.quant_state for p in model.parameters() if hasattr(p, "quant_state")]
    assert states
    # scales in 8 bits, and those of the scales in 32
    held += sum(s.absmax.numel() * s.absmax.element_size() + 4 * s.state2.absmax.numel() for s in states)
    adapter = 4 * plan.trained
    assert plan.phases[0].parts["weights"] - adapter == pytest.approx(held, rel=0.15)


def test_a_gradient_passes_through_the_base_after_an_evaluation():
    config = load_config(None, sets=["lora.quantize=nf4"], env={}).config
    source = find_model("builtin/tiny")
    model = load_policy(
        source, config.model, torch.float32, quantization.settings_of(config.lora, "float32", source)
    )
    layer = model.get_decoder().layers[-1].mlp.down_proj
    x = torch.ones(1, 2, layer.in_features)
    with torch.no_grad():
        before = layer.eval()(x)
    layer.train()
    wanted = x.clone().requires_grad_(True)
    after = layer(wanted)
    after.sum().backward()
    assert torch.allclose(before, after, atol=1e-5)
    assert wanted.grad is not None
    assert float(wanted.grad.abs().sum()) > 0


def adapter_of(run, step):
    return load_file(run.checkpoint_path(step) / "adapter_model.safetensors")


def test_the_adapter_is_trained_in_float32(folder):
    run = Run(folder / "runs" / "job")
    one, two = adapter_of(run, 1), adapter_of(run, 2)
    assert {tensor.dtype for tensor in two.values()} == {torch.float32}
    assert any(not torch.equal(one[name], two[name]) for name in two)


def test_a_stopped_job_is_resumed_to_the_same_bits(folder, tmp_path):
    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    run = jobs.moved(Run(tmp_path / "runs" / "job"), folder, tmp_path)
    expected = state_of(Run(folder / "runs" / "job"))
    shutil.rmtree(run.checkpoint_path(2))
    run.update(status="interrupted", result=None, best_step=0)
    ended = jobs.rft_here(tmp_path, *jobs.RESUME)
    assert ended.code == 0, ended.err
    assert not differences(expected, state_of(run))


def test_the_export_is_the_published_base_with_the_adapter(folder, tmp_path):
    run = Run(folder / "runs" / "job")
    for kind in ("merged", "adapter"):
        ended = jobs.rft_here(
            folder, "export", "runs/job", "--checkpoint", "2", "--format", kind, "--to", tmp_path / kind
        )
        assert ended.code == 0, ended.err
    base = load_file(BUILTIN / "tiny" / "model.safetensors")
    merged, adapter = load_file(tmp_path / "merged" / "model.safetensors"), adapter_of(run, 2)
    config = json.loads((run.checkpoint_path(2) / "adapter_config.json").read_text())
    name = "model.layers.0.self_attn.q_proj"
    a, b = (adapter[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    expected = base[f"{name}.weight"].float() + config["lora_alpha"] / config["r"] * (b @ a)
    assert torch.allclose(merged[f"{name}.weight"].float(), expected, atol=1e-2, rtol=1e-2)
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    exported = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(exported[key], adapter[key]) for key in adapter)
