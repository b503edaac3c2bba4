"""`rft validate --plan`: what it predicts against real tensors, what makes a job fit, what is refused."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen3Config
from trl.trainer.utils import add_fused_lm_head

from rft_cli.training.lora import lora_targets
from rft_cli.training.memory_plan.live_memory import LiveMemory
from rft_cli.training.memory_plan.passes import PassSizes, opened
from rft_cli.training.rollouts.backbone import backbone_of
from rft_cli.training.rollouts.scoring import score
from tests.command import ROOT, rft

SAMPLE = ROOT / "sample_data"
COMMON = {"vocab_size": 700, "eos_token_id": 0, "pad_token_id": 0, "bos_token_id": None}
SIZES = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4}
ARCHITECTURES = {
    "qwen3": Qwen3Config(**COMMON, **SIZES, num_key_value_heads=2, head_dim=16),
    "llama": LlamaConfig(**COMMON, **SIZES),
    "gpt2": GPT2Config(vocab_size=700, n_embd=64, n_layer=3, n_head=4, n_positions=256, eos_token_id=0),
}


def planned(*arguments, folder):
    ended = rft("validate", "--plan", "--json", *arguments, folder=folder)
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def adapter(model):
    return LoraConfig(r=4, target_modules=lora_targets(model, "all-linear"), task_type="CAUSAL_LM")


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_update_takes_what_was_predicted(name, lora):
    """Eight completions of two prompts, as the trainer scores them, on real tensors."""
    shape = PassSizes(24, 20, 8, 8, 4, torch.float32, torch.float32, False, True)
    with opened(ARCHITECTURES[name], shape, adapter if lora else None, False) as traced:
        predicted = traced.update().peak
    model = AutoModelForCausalLM.from_config(ARCHITECTURES[name])
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if lora:
        model = get_peft_model(model, adapter(model))
    prompts = torch.arange(2).repeat_interleave(4)[:, None].expand(-1, 24) + 1
    ids = torch.cat([prompts, torch.ones(8, 20).long()], dim=1)

    def one_update():
        scores = score(model, backbone_of(model), ids, torch.ones_like(ids), 20, 8, nullcontext, share=True)
        scores.logps.sum().backward()

    # Gradients are there from the second on.
    one_update()
    with LiveMemory() as memory:
        one_update()
    assert memory.peak == pytest.approx(predicted, rel=0.05)


def test_the_document_of_a_plan(tmp_path):
    found = planned(
        "-t", SAMPLE / "train.jsonl", "--set", "rollout.max_completion_tokens=64", folder=tmp_path
    )
    phases = {phase["name"]: phase["parts"] for phase in found["phases"]}
    weights = 4 * found["parameters"]
    assert found["schema"] == "rft.plan/1"
    assert found["trained_parameters"] == found["parameters"]
    # The policy and its frozen copy; two moments; keys and values of 3 layers with 2 heads of 64.
    assert phases["update"]["weights"] == 2 * weights
    assert phases["update"]["optimizer"] == 2 * weights
    assert phases["update"]["gradients"] == weights
    assert found["peak_bytes"] == max(sum(parts.values()) for parts in phases.values())
    assert found["fits"] is True
    assert found["remedy"] is None
    assert found["notes"] == []
    assert list(tmp_path.iterdir()) == []


def test_what_would_make_a_job_fit_fits(tmp_path):
    rows = ("-t", SAMPLE / "train.jsonl", "--set", "rollout.max_completion_tokens=64")
    found = planned(*rows, "--gpu", "1.2GB", folder=tmp_path)
    assert found["fits"] is False
    assert found["peak_bytes"] > found["usable_bytes"]
    remedy = found["remedy"]
    assert remedy["settings"]
    changed = [
        word for key, value in remedy["settings"].items() for word in ("--set", f"{key}={json.dumps(value)}")
    ]
    again = planned(*rows, *changed, "--gpu", "1.2GB", folder=tmp_path)
    assert again["fits"] is True
    assert again["peak_bytes"] == pytest.approx(remedy["peak_bytes"], rel=0.05)


def test_more_gpus_share_the_completions(tmp_path):
    rows = ("--set", "rollout.max_completion_tokens=64")
    one, four = (planned(*rows, "--gpu", "80GB", "--gpus", count, folder=tmp_path) for count in ("1", "4"))
    cache = [{p["name"]: p["parts"] for p in found["phases"]}["sampling"]["cache"] for found in (one, four)]
    assert cache[1] == pytest.approx(cache[0] / 4, rel=0.02)


def test_a_model_too_large_for_anything_is_said_so(tmp_path):
    rows = ("--set", "rollout.max_completion_tokens=64")
    ended = rft("validate", "--plan", *rows, "--gpu", "1.06GB", folder=tmp_path)
    assert ended.code == 0
    assert "take a smaller model or more memory" in " ".join(ended.out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plan", "--gpu", "huge"], "--gpu huge: not a size"),
        (["--plan", "--gpu", "0GB"], "--gpu 0GB: not a size"),
        (["--gpu", "80GB", "--model", "builtin/tiny"], "--gpu and --gpus need --plan"),
        (["--plan", "--run", "latest"], "--plan and --run exclude each other"),
        (["--plan", "--model", "gpt-4o"], "gpt-4o is a hosted model"),
    ],
)
def test_what_a_plan_refuses(tmp_path, arguments, said):
    ended = rft("validate", *arguments, folder=tmp_path)
    assert ended.code == 2
    assert said in ended.err
