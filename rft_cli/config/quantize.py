"""`lora.quantize`: what training beside a base in 4 bits needs, checked before anything loads."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from rft_cli.config.launcher import sharding_in
from rft_cli.config.schema import RunConfig
from rft_cli.errors import UsageError


def check_quantize(config: RunConfig, env: Mapping[str, str]) -> None:
    """Raise UsageError where a base in 4 bits can't be trained beside here."""
    if config.lora.quantize == "none":
        return
    if find_spec("bitsandbytes") is None:
        raise UsageError(
            f"lora.quantize {config.lora.quantize} needs the package bitsandbytes, which is not installed",
            "pip install 'rft-cli[qlora]', or set lora.quantize to none",
        )
    sharding = sharding_in(env)
    if sharding is not None:
        raise UsageError(
            f"lora.quantize {config.lora.quantize} does not go with {sharding.name}: a base in 4 bits is not shared "
            "between processes",
            "set lora.quantize to none, or train with a copy in each process: --num-processes N",
        )
