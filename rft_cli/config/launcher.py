"""What a launcher (accelerate, torchrun) sets in the environment of each process that it starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rft_cli.errors import UsageError


def world_size_in(env: Mapping[str, str]) -> int:
    """How many processes there are; 1 without a launcher. UsageError if WORLD_SIZE is not a valid count."""
    text = env.get("WORLD_SIZE", "").strip() or "1"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(
            f"WORLD_SIZE in the environment is '{text}', which is not a valid process count",
            "unset it: launchers such as accelerate set it for the processes they start",
        )
    return int(text)


@dataclass(frozen=True, slots=True)
class Sharding:
    """How one model is spread over the processes. `library`: fsdp or deepspeed; `stage` is ZeRO's, else 0."""

    library: str
    stage: int = 0

    @property
    def name(self) -> str:
        """For people."""
        return "FSDP" if self.library == "fsdp" else f"DeepSpeed ZeRO-{self.stage}"


def sharding_in(env: Mapping[str, str]) -> Sharding | None:
    """What `accelerate launch` was asked for; None where every process has the whole model."""
    if env.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        return Sharding("deepspeed", _zero_stage(env))
    return Sharding("fsdp") if env.get("ACCELERATE_USE_FSDP", "").lower() == "true" else None


def _zero_stage(env: Mapping[str, str]) -> int:
    """Of the launcher's own settings, or of the DeepSpeed file that they name."""
    file = env.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if file != "none":
        try:
            return int(json.loads(Path(file).read_bytes())["zero_optimization"]["stage"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UsageError(
                f"{file} is no DeepSpeed configuration with zero_optimization.stage",
                "correct deepspeed_config_file in the file given to accelerate launch --config_file",
            ) from None
    stage = env.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    return int(stage) if stage.isdecimal() else 2


def check_launcher(env: Mapping[str, str]) -> None:
    """Raise UsageError where the launcher asks for a package that is missing."""
    sharding = sharding_in(env)
    if sharding is not None and sharding.library == "deepspeed" and find_spec("deepspeed") is None:
        raise UsageError(
            "the launcher asks for DeepSpeed, which is not installed",
            "pip install 'rft-cli[deepspeed]', or launch with configs/accelerate/fsdp2.yaml",
        )
