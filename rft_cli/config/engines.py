"""The settings of `rollout.engine`: endpoints, and what contradicts them.

Nothing here repeats a URL that may hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from rft_cli.config.judges import NONE, url_problem
from rft_cli.config.paths import named
from rft_cli.config.training_sections import RolloutConfig, VllmConfig

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class EngineProblem(NamedTuple):
    """Settings that can't be used together (the one to blame first), what is wrong, what to do."""

    keys: tuple[str, ...]
    message: str
    fix: str


def endpoints(rollout: RolloutConfig) -> list[str]:
    """The addresses in `rollout.endpoint`, each once, without `/v1` at their end."""
    words = [part.strip() for text in named(rollout.endpoint) for part in text.split(",")]
    return list(dict.fromkeys(word.rstrip("/").removesuffix("/v1") for word in words if word))


def engine_problems(rollout: RolloutConfig) -> Iterator[EngineProblem]:
    """What is wrong with the settings of the engine."""
    where, vllm = endpoints(rollout), rollout.vllm
    if rollout.engine != "vllm":
        if where:
            message = f"the engine {rollout.engine} has no endpoint: it samples in the trainer's own process"
            yield EngineProblem(
                ("rollout.endpoint", "rollout.engine"), message, "set rollout.engine to vllm, or leave it out"
            )
        return
    for number, url in enumerate(where, 1):
        reason = url_problem(url)
        if reason is not None:
            one = f"address {number} " if len(where) > 1 else ""
            yield EngineProblem(
                ("rollout.endpoint",), f"{one}{reason}", "write it like http://127.0.0.1:8000"
            )
    started = [name for name in ("python", "command", "arguments") if getattr(vllm, name)]
    if where and started:
        keys = ("rollout.endpoint", *(f"rollout.vllm.{name}" for name in started))
        message = f"set beside {keys[1]}: an engine that runs already is not started"
        yield EngineProblem(keys, message, "keep one of them")
    if vllm.python is not None and vllm.command:
        message = "set beside rollout.vllm.command, which names the whole program"
        yield EngineProblem(("rollout.vllm.python", "rollout.vllm.command"), message, "keep one of them")
    if vllm.api_key_env != NONE and not _VARIABLE.fullmatch(vllm.api_key_env):
        yield EngineProblem(
            ("rollout.vllm.api_key_env",),
            "must be the name of an environment variable, not the key itself",
            "name the variable that holds the key, or none",
        )


def idle_settings(rollout: RolloutConfig) -> list[str]:
    """Settings of the engine vllm that were set although another one samples."""
    if rollout.engine == "vllm":
        return []
    plain = VllmConfig()
    idle = [
        f"rollout.vllm.{name}"
        for name in VllmConfig.model_fields
        if getattr(rollout.vllm, name) != getattr(plain, name)
    ]
    cap = RolloutConfig.model_fields["importance_cap"].default
    return [*idle, *(["rollout.importance_cap"] if rollout.importance_cap != cap else [])]
