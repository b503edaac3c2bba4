"""The run directory: paths, atomic writes, lock, samples, metrics and the checkpoint index."""

from rft_cli.runs.find import is_run
from rft_cli.runs.run import Run

__all__ = ["Run", "is_run"]
