"""The run directory: paths, atomic writes, lock, samples, metrics and the checkpoint index."""

from rft_cli.runs.run import Run, is_run

__all__ = ["Run", "is_run"]
