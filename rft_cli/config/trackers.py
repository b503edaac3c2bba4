"""`report_to`: the trackers that a job can report to, and whether their packages are there."""

from __future__ import annotations

from importlib.util import find_spec

from rft_cli.config.suggest import did_you_mean
from rft_cli.errors import UsageError, UsageErrors

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
"""Each is also the name of its Python package and of rft's extra."""


def check_trackers(names: list[str]) -> None:
    """Raise UsageErrors for trackers that rft does not know, or whose package is missing."""
    problems = [problem for name in names if (problem := _problem(name)) is not None]
    if problems:
        raise UsageErrors(problems)


def _problem(name: str) -> UsageError | None:
    if name not in TRACKERS:
        near = did_you_mean(name, TRACKERS)
        return UsageError(f"{name} is not a tracker", near or f"there are {', '.join(TRACKERS)}")
    if find_spec(name) is None:
        return UsageError(
            f"{name} needs the package {name}, which is not installed",
            f"pip install 'rft-cli[{name}]'",
        )
    return None
