"""A configuration as a flat map from dotted key to value: for records, and to see what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rft_cli.config.keys import all_keys
from rft_cli.config.schema import RunConfig

_COLUMNS = "data.columns."


def flat(config: RunConfig) -> dict[str, Any]:
    """Every setting by its dotted key, in the schema's order; columns that are not named are left out."""
    tree = config.model_dump()
    found = {}
    for key in all_keys():
        value: Any = tree
        for word in key.split("."):
            value = value.get(word)
        if value is not None or not key.startswith(_COLUMNS):
            found[key] = value
    return found


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """The configuration with other values for these dotted keys."""
    tree = config.model_dump()
    for key, value in settings.items():
        *sections, name = key.split(".")
        inner = tree
        for section in sections:
            inner = inner[section]
        inner[name] = value
    return RunConfig.model_validate(tree, strict=True)
