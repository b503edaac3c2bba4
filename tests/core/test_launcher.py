"""What a launcher asks for, from the environment it sets; and what rft lacks for it."""

import json

import pytest

from rft_cli.config import launcher, quantize
from rft_cli.config.launcher import Sharding, check_launcher, sharding_in
from rft_cli.config.load import load_config
from rft_cli.errors import RftError, UsageError

ZERO = {"ACCELERATE_USE_DEEPSPEED": "true"}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, None),
        ({"WORLD_SIZE": "2"}, None),
        ({"ACCELERATE_USE_FSDP": "false"}, None),
        ({"ACCELERATE_USE_FSDP": "true"}, Sharding("fsdp")),
        (ZERO, Sharding("deepspeed", 2)),
        ({**ZERO, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, Sharding("deepspeed", 3)),
        ({**ZERO, "ACCELERATE_DEEPSPEED_CONFIG_FILE": "none"}, Sharding("deepspeed", 2)),
    ],
)
def test_what_accelerate_launch_asks_for(env, expected):
    assert sharding_in(env) == expected


def test_a_deepspeed_file_decides_over_the_stage(tmp_path):
    file = tmp_path / "ds.json"
    env = {**ZERO, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}
    file.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    assert sharding_in(env) == Sharding("deepspeed", 3)
    for wrong in ("{", "[]", "{}"):
        file.write_text(wrong)
        with pytest.raises(UsageError, match="is no DeepSpeed configuration"):
            sharding_in(env)


def test_deepspeed_that_is_missing_is_one_message(monkeypatch):
    monkeypatch.setattr(launcher, "find_spec", lambda name: None)
    check_launcher({"ACCELERATE_USE_FSDP": "true"})
    with pytest.raises(UsageError) as raised:
        check_launcher(ZERO)
    assert raised.value.message == "the launcher asks for DeepSpeed, which is not installed"
    assert "pip install 'rft-cli[deepspeed]'" in raised.value.fix


def quantized(*sets):
    return load_config(None, sets=["lora.quantize=nf4", *sets], env={}).config


def test_bitsandbytes_that_is_missing_is_one_message(monkeypatch):
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as raised:
        quantize.check_quantize(quantized(), {})
    assert raised.value.message == "lora.quantize nf4 needs the package bitsandbytes, which is not installed"
    assert "pip install 'rft-cli[qlora]'" in raised.value.fix
    quantize.check_quantize(load_config(None, env={}).config, {})


def test_a_base_in_4_bits_is_not_shared_between_processes(monkeypatch):
    monkeypatch.setattr(quantize, "find_spec", lambda name: object())
    quantize.check_quantize(quantized(), {})
    with pytest.raises(UsageError, match=r"lora\.quantize nf4 does not go with DeepSpeed ZeRO-2"):
        quantize.check_quantize(quantized(), ZERO)


def test_full_fine_tuning_of_4_bits_is_refused():
    with pytest.raises(RftError, match="nf4 is a frozen base in 4 bits"):
        quantized("lora.enabled=false")
