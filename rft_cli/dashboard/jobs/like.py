"""The form filled in as a run was started, to start another one like it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rft_cli.config.keys import all_keys
from rft_cli.dashboard.jobs.form import fields

_OWN = ("name", "output_dir", "model.revision", "grader.folder")
"""Settings that belong to the one run alone."""


def values_like(settings: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The form's values for a run's settings; other settings than the form's become lines of its last field.

    Paths inside `folder` are written as one would type them there.
    """
    with_field = {field.key for field in fields().values()} - {""}
    values, lines = dict[str, str](), list[str]()
    for key, value in settings.items():
        known = all_keys().get(key)
        if known is None or key in _OWN or value == known.default or isinstance(value, dict):
            continue
        text = _text(value, folder)
        if key in with_field:
            values[key] = text
        elif value is not None:
            lines.append(f"{key}={text}")
    return values | ({"more": "\n".join(lines)} if lines else {})


def _text(value: object, folder: Path) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_text(item, folder) for item in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    inside = f"{folder}{os.sep}"
    return text.removeprefix(inside) if isinstance(value, str) else text
