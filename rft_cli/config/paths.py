"""Paths in settings: relative to their YAML file, otherwise to the working directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rft_cli.config.hub_names import hub_name
from rft_cli.config.scorers import split_weight

FILE_KEYS = ("data.train", "data.validation", "data.test")
"""Settings that name files of rows (`-`: standard input), or data sets of the hub; one, or a list."""
JSON_OR_YAML = (".json", ".yaml", ".yml")
"""How names of files end that hold one document: a grader spec, a fine-tuning job."""
GRADER_KEYS = ("grader.path", "grader.guard")
"""Settings that name a grader."""
_GRADER_FILES = (".py", *JSON_OR_YAML)


def named(value: str | list[str] | None) -> list[str]:
    """The names in a setting that takes one or several."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def one_or_all(names: list[str]) -> str | list[str] | None:
    """Such a setting with these names."""
    return names[0] if len(names) == 1 else names or None


def is_path(key: str, value: str, folder: str = "") -> bool:
    """Whether this value of `key` names a file or folder, and not a hub id or a run. `folder`: where it lies."""
    if key in FILE_KEYS:
        return value != "-" and hub_name(value, folder) is None
    if key == "grader.folder":
        return True
    if key in GRADER_KEYS:
        # `scorer.py:function=0.5` names a function of the file, and a weight.
        value = split_weight(value)[0]
        file = value.rpartition(":")[0] if ":" in value else value
        return file.endswith(_GRADER_FILES) or value.endswith(_GRADER_FILES) or _is_relative(value)
    if key == "rollout.vllm.python":
        # A bare name is looked for in PATH.
        return "/" in value
    if key == "grader.judge.cache":
        return value.lower() not in ("auto", "none")
    return key == "model.path" and _is_relative(value)


def resolve(key: str, value: Any, folder: str) -> Any:
    """The value with paths in it made relative to the working directory instead of `folder`; of a list each."""
    if isinstance(value, list) and key in (*FILE_KEYS, "grader.path"):
        return [resolve(key, one, folder) for one in value]
    if not isinstance(value, str) or not is_path(key, value, folder):
        return value
    expanded = os.path.expanduser(value)
    joined = os.path.normpath(os.path.join(folder, expanded))
    # normpath removes the "./" that makes it a path and not a hub id.
    bare = key == "model.path" and not os.path.isabs(joined) and not joined.startswith(os.pardir)
    return os.path.join(os.curdir, joined) if bare else joined


def absolute(key: str, value: Any) -> Any:
    """The value as it means the same in any working directory; of a list each."""
    if isinstance(value, list):
        return [absolute(key, item) for item in value]
    if is_path(key, value) or (
        key in ("model.path", *GRADER_KEYS) and not value.startswith("builtin/") and Path(value).is_dir()
    ):
        return os.path.abspath(os.path.expanduser(value))
    return value


def _is_relative(value: str) -> bool:
    return value in (".", "..", "~") or value.startswith(("./", "../", "~/", "/"))
