"""Dropout, layer drop and router jitter are off while a policy trains, and what is saved says what the base says."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3TextConfig,
    MiniMaxConfig,
    MixtralConfig,
    MptConfig,
    PhimoeConfig,
    Qwen3Config,
    SeedOssConfig,
    Starcoder2Config,
)

from rft_cli.config.schema import ModelConfig
from rft_cli.runs.model_source import BUILTIN, find_model
from rft_cli.training.dropout import own_rates, rates_of, without_dropout
from rft_cli.training.models import load_config, load_policy
from tests.training.conftest import make_run


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        (Qwen3Config(attention_dropout=0.1), {("attention_dropout",): 0.1}),
        (SeedOssConfig(), {("attention_dropout",): 0.1, ("residual_dropout",): 0.1}),
        (
            Starcoder2Config(attention_dropout=0.1, residual_dropout=0.1, embedding_dropout=0.2),
            {("attention_dropout",): 0.1, ("residual_dropout",): 0.1, ("embedding_dropout",): 0.2},
        ),
        (
            MptConfig(emb_pdrop=0.1, attn_config={"attn_pdrop": 1}),
            {("emb_pdrop",): 0.1, ("attn_config", "attn_pdrop"): 1},
        ),
        (
            Gemma3Config(text_config=Gemma3TextConfig(attention_dropout=0.3)),
            {("text_config", "attention_dropout"): 0.3},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_rate_is_found_and_turned_off(config: Any, rates: dict[tuple[str, ...], float]) -> None:
    assert rates_of(config) == rates
    assert rates_of(without_dropout(config)) == {}
    assert rates_of(config) == rates, "the configuration itself stays"


def test_what_are_no_rates() -> None:
    config = Qwen3Config()
    config.token_dropout, config.drop_path_names, config.dropped = True, ["a"], None
    assert rates_of(config) == {}


@pytest.mark.parametrize("made", [PhimoeConfig, MixtralConfig, MiniMaxConfig])
def test_routers_are_as_quiet_as_in_evaluation(made: Any, tmp_path: Path) -> None:
    """PhiMoE's draws experts at random in training, and its jitter counts in evaluation too."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    noise = {"router_jitter_noise": 0.3, **({"input_jitter_noise": 0.3} if made is PhimoeConfig else {})}
    config = made(vocab_size=32, num_key_value_heads=2, num_local_experts=4, **sizes, **noise)
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    plain.save_pretrained(tmp_path)
    policy: Any = load_policy(find_model(str(tmp_path)), ModelConfig(path=str(tmp_path)), torch.float32)
    assert policy.config.router_jitter_noise == 0.3
    ids = torch.arange(30).unsqueeze(0)
    with torch.no_grad():
        expected = plain(ids).logits
        assert not torch.equal(plain.train()(ids).logits, expected)
        torch.testing.assert_close(policy.train()(ids).logits, expected)
        torch.testing.assert_close(copy.deepcopy(policy).train()(ids).logits, expected)


def with_dropout(folder: Path) -> Path:
    """builtin/tiny, whose attention drops weights when it trains."""
    shutil.copytree(BUILTIN / "tiny", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.3}))
    return folder


def test_a_policy_computes_the_same_when_it_trains(tmp_path: Path) -> None:
    folder = with_dropout(tmp_path / "model")
    settings = ModelConfig(path=str(folder))
    policy: Any = load_policy(find_model(str(folder)), settings, torch.float32)
    ids = torch.arange(10, 30).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(policy.train()(ids).logits, policy.eval()(ids).logits)
    with own_rates(policy):
        assert policy.config.attention_dropout == 0.3
    assert policy.config.attention_dropout == 0.0
    assert load_config(settings).attention_dropout == 0.3


def test_a_job_on_a_model_with_dropout(tmp_path: Path) -> None:
    """It takes the same steps as without, and its checkpoint is configured as the base is."""
    lines = []
    for name in ("without", "with"):
        folder = tmp_path / name
        model = with_dropout(tmp_path / "dropout") if name == "with" else BUILTIN / "tiny"
        folder.mkdir()
        rate = ("--n-epochs", "1", "--learning-rate", "1e-3", "--set", "rollout.max_completion_tokens=8")
        run = make_run(folder, name, "--model", str(model), *rate, "--set", "lora.enabled=false")
        lines.append([(row["kl"], row["ratio"], row["reward"]) for row in run.metrics()])
        (file,) = run.path.glob("checkpoints/step-*/config.json")
        assert json.loads(file.read_text())["attention_dropout"] == (0.3 if name == "with" else 0.0)
    assert lines[0] == lines[1]
    assert lines[0][0][1] == pytest.approx(1.0, abs=1e-4)
