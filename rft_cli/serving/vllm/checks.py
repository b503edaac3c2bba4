"""Whether a server that runs already can sample for a job: asked before anything trains."""

from __future__ import annotations

import os
from pathlib import Path

from rft_cli.errors import UsageError
from rft_cli.serving.vllm.client import (
    LOAD,
    RPC,
    WEIGHT_INFO,
    EngineLost,
    EngineRefused,
    EngineSlow,
    Served,
    VllmClient,
)
from rft_cli.serving.vllm.process import EngineNeeds

KEY = "rollout.endpoint"


def check_server(client: VllmClient, needs: EngineNeeds) -> Served:
    """The base model that it serves; UsageError where it is down, no vLLM, too small, or can't take weights."""
    if not client.answers():
        raise UsageError(
            f"{KEY}: {client.url} does not answer", "start vLLM there, or leave it out: rft then starts one"
        )
    try:
        base = _base(client)
        _check_context(client.url, base, needs)
        _check_weights(client, needs)
    except EngineRefused as error:
        unauthorised = error.status in (401, 403)
        fix = "set rollout.vllm.api_key_env" if unauthorised else "is this a vLLM server?"
        raise UsageError(f"{KEY}: {client.url} answered: {error}", fix) from None
    except (EngineLost, EngineSlow) as error:
        raise UsageError(f"{KEY}: {client.url}: {error}", "look at its log") from None
    return base


def _base(client: VllmClient) -> Served:
    models = [model for model in client.models() if model.parent is None]
    if not models or models[0].context is None:
        raise UsageError(
            f"{KEY}: {client.url} is not vLLM: its list of models has no max_model_len",
            "give the address of a vLLM server",
        )
    return models[0]


def _check_context(url: str, base: Served, needs: EngineNeeds) -> None:
    if base.context is not None and base.context < needs.context:
        raise UsageError(
            f"{KEY}: {url} takes {base.context} tokens, and prompts with completions have up to {needs.context}",
            f"start it with --max-model-len {needs.context}, or lower rollout.max_completion_tokens",
        )


def _check_weights(client: VllmClient, needs: EngineNeeds) -> None:
    """Whether new weights can be brought to it."""
    version = client.version()
    what = f"{KEY}: {client.url} (vLLM {version or 'of unknown version'})"
    if needs.rank is not None:
        if not client.offers(LOAD):
            raise UsageError(
                f"{what} can't load adapters while it runs: it has no {LOAD}",
                "start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, --enable-lora and "
                f"--max-lora-rank {needs.rank}",
            )
        return
    try:
        client.weight_version()
        offered = client.offers(RPC)
    except (EngineRefused, KeyError, TypeError):
        offered = False
    if not offered:
        raise UsageError(
            f"{what} can't take the whole weights of full fine-tuning: it has no {RPC} with {WEIGHT_INFO}",
            "train with LoRA (lora.enabled=true), whose adapters every vLLM loads, or start vLLM 0.32 or later with "
            "VLLM_SERVER_DEV_MODE=1",
        )


def same_place(served: str, place: str) -> bool:
    """Whether a server's `root` names the model that a job trains: the same folder, or the same last part."""
    if served == place or os.path.realpath(served) == os.path.realpath(place):
        return True
    return Path(served).name == Path(place).name
