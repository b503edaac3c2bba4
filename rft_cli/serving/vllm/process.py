"""vLLM as a child process: its command, the wait until it answers, its end.

It runs in an environment of its own: `rollout.vllm.python` is that environment's Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rft_cli.config.training_sections import VllmConfig
from rft_cli.errors import RunFailed, UsageError
from rft_cli.serving.engine_process import POLL_S, EngineProcess
from rft_cli.serving.engines import HOST, Engine
from rft_cli.serving.model import RequestDefaults, ServedModel
from rft_cli.serving.vllm.client import VllmClient

MODULE = "vllm.entrypoints.openai.api_server"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM reserves memory for."""
ADAPTERS = 3
"""Adapters in memory: the one that samples, the next, and one to spare."""
_LOOK_S = 60.0


@dataclass(frozen=True, slots=True)
class EngineNeeds:
    """What an engine must serve: a model's place, its type of arithmetic, and tokens of prompt and completion.

    `rank`: of the adapters that it will get; None where whole weights are reloaded.
    """

    place: str
    dtype: str
    context: int
    rank: int | None
    on_cpu: bool
    revision: str | None = None
    trust_remote_code: bool = False
    seed: int = 0


def arguments(needs: EngineNeeds) -> list[str]:
    """vLLM's arguments, without host and port.

    The model's own generation settings would change what is sampled; log-probabilities are those after temperature.
    """
    given = [
        *("--model", needs.place, "--dtype", needs.dtype, "--max-model-len", str(needs.context)),
        *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm", "--seed", str(needs.seed)),
    ]
    if needs.revision is not None:
        given += ["--revision", needs.revision]
    if needs.trust_remote_code:
        given += ["--trust-remote-code"]
    if needs.on_cpu:
        # Compiling takes minutes there.
        given += ["--enforce-eager"]
    if needs.rank is not None:
        rank = next((rank for rank in RANKS if rank >= needs.rank), needs.rank)
        given += ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(ADAPTERS)]
    return given


def variables(needs: EngineNeeds, environment: Mapping[str, str]) -> list[str]:
    """`NAME=VALUE` for variables that the engine needs; those that are set already stay as they are."""
    wanted = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    if needs.rank is None:
        # The routes that reload weights.
        wanted["VLLM_SERVER_DEV_MODE"] = "1"
    if needs.on_cpu:
        wanted |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "2"}
    return [f"{name}={value}" for name, value in wanted.items() if name not in environment]


def program(settings: VllmConfig) -> list[str]:
    """The words that start the server; UsageError where that environment has no vLLM."""
    if settings.command:
        return list(settings.command)
    python = os.path.expanduser(settings.python or sys.executable)
    key = "rollout.vllm.python"
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        found = subprocess.run([python, "-c", look], capture_output=True, timeout=_LOOK_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{key}: {python} can't be run: {why}", "name the Python of an environment that has vLLM"
        ) from None
    if found.returncode != 0:
        where = f"{python} has no package vllm" if settings.python else "rft's own environment has no vllm"
        raise UsageError(
            f"{key}: {where}",
            "make it an environment of its own (python -m venv /opt/vllm; /opt/vllm/bin/pip install vllm) and set "
            f"{key} to its bin/python, or set rollout.endpoint to a server that runs",
        )
    return [python, "-m", MODULE]


class StartedVllm:
    """A server that rft has started, and ends with all its processes."""

    def __init__(self, settings: VllmConfig, needs: EngineNeeds, log: Path) -> None:
        self._settings, self._log = settings, log
        words = [
            *("env", *variables(needs, os.environ)),
            *program(settings),
            *arguments(needs),
            *settings.arguments,
        ]

        def command(_model: ServedModel, port: int) -> list[str]:
            return [*words, "--host", HOST, "--port", str(port)]

        engine = Engine("vllm", "", lambda: None, command, lambda model: model.name)
        served = ServedModel("base", Path(needs.place), needs.dtype, needs.context, RequestDefaults())
        self._process = EngineProcess(engine, served, log)

    @property
    def url(self) -> str:
        return self._process.url

    def wait(self, client: VllmClient, on_wait: Callable[[], None]) -> None:
        """Return once it answers; RunFailed where it ends first, or takes longer than `rollout.vllm.startup_s`."""
        began = time.monotonic()
        while not client.answers():
            on_wait()
            try:
                self._process.check()
            except RunFailed as error:
                raise RunFailed(error.message, self._fix()) from None
            if time.monotonic() - began > self._settings.startup_s:
                raise RunFailed(
                    f"the engine vllm did not answer within {self._settings.startup_s:g} s",
                    f"see {self._log}; raise rollout.vllm.startup_s if it only needs more time",
                )
            time.sleep(POLL_S)

    def end(self) -> None:
        """End it and everything that it started; safe to call twice."""
        self._process.end()

    def _fix(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace").lower()
        if any(sign in text for sign in _MEMORY):
            return (
                "it needs more memory than there is: lower rollout.max_completion_tokens or give it less, on a GPU "
                "with rollout.vllm.arguments=[--gpu-memory-utilization=0.4], on a CPU with VLLM_CPU_KVCACHE_SPACE=1 "
                f"(GiB) in the environment; all of its log: {self._log}"
            )
        return f"all of its log: {self._log}; its command is rft's with rollout.vllm.arguments"


_MEMORY = (
    "out of memory",
    "no available memory",
    "kv cache is needed",
    "free memory on device",
    "memoryerror",
)
"""Signs of a lack of memory in vLLM's log."""
