"""Definitions of tools that a row brings along, in the form that chat templates take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rft_cli.data.messages import Remark, unpacked, without_nulls

_SCHEMA = ("parameters", "input_schema", "inputSchema")
"""What the schema of a tool's arguments is called: OpenAI's name, Anthropic's, MCP's."""


def tools_of(value: object, key: str, remark: Remark) -> list[dict[str, Any]] | None:
    """The definitions under a row's `key`, `{type: function, function: {name, …}}` each; None if there are none.

    Takes OpenAI's form, its flat one, bare functions, and any of them as JSON in a string.
    """
    if value is None or value in ("", [], "[]", {}):
        return None
    listed = unpacked(value, key, remark)
    if isinstance(listed, dict):
        listed = [listed]
    found = [_definition(item) for item in listed] if isinstance(listed, list) else [None]
    definitions = [one for one in found if one is not None]
    if len(definitions) < len(found):
        remark(f"'{key}' holds no definitions of tools (name, parameters): the chat template does not get it")
        return None
    if definitions != without_nulls(listed):
        remark(f"'{key}' is put into the form that chat templates take: {{type: function, function: …}}")
    return definitions


def _definition(item: object) -> dict[str, Any] | None:
    if isinstance(item, str):
        try:
            item = json.loads(item)
        except ValueError:
            return None
    if not isinstance(item, Mapping):
        return None
    inner = item.get("function", item)
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        return None
    schema = next((inner[name] for name in _SCHEMA if isinstance(inner.get(name), Mapping)), None)
    rest = {name: value for name, value in inner.items() if name not in (*_SCHEMA, "type")}
    function = without_nulls(rest if schema is None else {**rest, "parameters": schema})
    return {"type": "function", "function": function}
