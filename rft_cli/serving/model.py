"""What is served: a model as files, its name, and the settings a request gets where it sets none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rft_cli.config import RunConfig


@dataclass(frozen=True, slots=True)
class RequestDefaults:
    """What a request gets where it does not say otherwise: sampling, the system message, the template's variables.

    `merges_system`: a system message's text goes before the first user's, as `model.system_role: user` says.
    """

    temperature: float | None = 1.0
    top_p: float | None = 1.0
    max_tokens: int | None = None
    system: str | None = None
    merges_system: bool = False
    template: Mapping[str, Any] | None = None


def defaults_of_run(config: RunConfig, pilot: Mapping[str, Any] | None) -> RequestDefaults:
    """The settings with which a run's validation sampled; `pilot` is the document of its pilot."""
    setting = config.rollout.max_completion_tokens
    found = None if pilot is None else int(pilot["max_completion_tokens"])
    return RequestDefaults(
        temperature=config.validation.temperature,
        top_p=config.validation.top_p,
        max_tokens=found if isinstance(setting, str) else setting,
        system=config.data.system,
        merges_system=config.model.system_role == "user",
        template=config.model.chat_template_kwargs or None,
    )


def chosen_defaults(config: RunConfig, origins: Mapping[str, str]) -> dict[str, Any]:
    """Those of the settings that somebody set: fields of RequestDefaults."""
    fields = {
        "temperature": "validation.temperature",
        "top_p": "validation.top_p",
        "max_tokens": "rollout.max_completion_tokens",
        "system": "data.system",
        "merges_system": "model.system_role",
        "template": "model.chat_template_kwargs",
    }
    found = defaults_of_run(config, None)
    return {name: getattr(found, name) for name, key in fields.items() if origins[key] != "default"}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model under its name.

    `place`: a folder as transformers loads it, or a GGUF file. `dtype`: what it computes in. `context`: the most tokens
    of prompt and completion. `count`: the tokens of a request's prompt, for engines
    that don't check its length. `begin`: the token that the tokenizer puts
    before any text; empty where it puts none.
    """

    name: str
    place: Path
    dtype: str
    context: int
    defaults: RequestDefaults
    count: Callable[[Mapping[str, Any]], int] | None = None
    begin: str = ""
    trust_remote_code: bool = False
