"""From the form's values to the command line that does the same, as a list of arguments: no shell reads it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rft_cli.dashboard.jobs.form import fields

SHORT = {"--training-file": "-t", "--validation-file": "-v"}
"""The short names that people know these flags by."""


def rft(arguments: Sequence[str]) -> list[str]:
    """The command line that runs `rft` with these arguments, with this Python.

    -P: a file `json.py` in the folder that it runs in is not taken for Python's own.
    """
    return [sys.executable, "-P", "-m", "rft_cli", *arguments]


def create_arguments(values: Mapping[str, str], output_dir: Path | str) -> list[str]:
    """The arguments of `rft create` for the form's values."""
    arguments = ["create"]
    for name, field in fields().items():
        value = values.get(name, "")
        if field.kind == "lines":
            for line in filter(None, map(str.strip, value.splitlines())):
                arguments += _option("--set", line)
        elif value:
            # as a shell does, which is not asked here
            value = os.path.expanduser(value) if field.kind in ("file", "model") else value
            arguments += (
                _option(field.flag, value) if field.flag else _option("--set", f"{field.key}={value}")
            )
    # a configuration file, another setting or a variable could name another folder than the dashboard's
    default = str(output_dir) == "runs" and not (
        {"config", "more"} & set(values) or "RFT_OUTPUT_DIR" in os.environ
    )
    return arguments if default else [*arguments, *_option("--output-dir", str(output_dir))]


def resume_arguments(run: Path) -> list[str]:
    """The arguments that resume this run."""
    return ["train", *_option("--resume", str(run))]


def shown(arguments: Sequence[str]) -> str:
    """The command as a person would type it, quoted for a shell."""
    return shlex.join(["rft", *arguments])


def _option(flag: str, value: str) -> list[str]:
    """The option with its value, in one piece where the value could be taken for an option."""
    if value.startswith("-"):
        return [f"{flag}={value}"]
    return [SHORT.get(flag, flag), value]
