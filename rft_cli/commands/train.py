"""`rft train`: the same job as `rft create`, described in a YAML file."""

from __future__ import annotations

from inspect import Parameter, Signature, signature
from typing import Any

from rft_cli.commands import flags
from rft_cli.commands.create import create
from rft_cli.errors import UsageError


def train(**options: Any) -> None:
    """Run the job that a YAML file describes, or continue one with --resume RUN.

    Examples:

    \b
    rft train configs/quickstart.yaml --n-epochs 4
    rft train --resume latest
    """
    config = flags.one_config(options.pop("config_file"), options["config"])
    if config is None and options["resume"] is None and options["from_openai"] is None:
        raise UsageError(
            "there is no CONFIG.yaml",
            "give one, or a job with --from-openai, or continue a run with --resume RUN",
        )
    create(**{**options, "config": config})


def _parameters() -> list[Parameter]:
    """The parameters that Typer sees: CONFIG.yaml, then those of `rft create`."""
    argument = Parameter(
        "config_file", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=flags.ConfigArgument
    )
    return [argument, *signature(create, eval_str=True).parameters.values()]


train.__signature__ = Signature(_parameters())  # type: ignore[attr-defined]
