"""The settings with which a run measured its model, as an export keeps them in `rft-export.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rft_cli.config import RunConfig
from rft_cli.config.flat import flat
from rft_cli.runs.exports import MARKER

KEYS = (
    "validation.temperature",
    "validation.top_p",
    "rollout.max_completion_tokens",
    "data.system",
    "model.system_role",
    "model.chat_template_kwargs",
)
"""Settings of a run that decide what its model is asked and how it is sampled."""


def measured_settings(config: RunConfig, max_completion_tokens: int) -> dict[str, Any]:
    """The value of each key in `config`, with the limit of a completion as it was found."""
    values = flat(config)
    return {**{key: values[key] for key in KEYS}, "rollout.max_completion_tokens": max_completion_tokens}


def read_export(folder: Path) -> dict[str, Any] | None:
    """What `rft export` wrote of itself into this folder; None where that can't be read."""
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def read_measured_settings(folder: Path) -> dict[str, Any]:
    """The settings of an export in this folder; empty where there are none."""
    found = (read_export(folder) or {}).get("settings")
    if not isinstance(found, Mapping):
        return {}
    return {key: found[key] for key in KEYS if found.get(key) is not None}
