"""A run for one overview: its result, diagnosis and warnings look at the same validations."""

from __future__ import annotations

from pathlib import Path

from rft_cli.runs import Run
from rft_cli.types import Sample


class RunReadOnce(Run):
    """Reads each file of samples once, and keeps them as long as this object is used."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._kept: dict[str, list[Sample]] = {}

    def read_samples(self, name: str) -> list[Sample]:
        """The samples kept under this name, as they were when they were first asked for."""
        if name not in self._kept:
            self._kept[name] = super().read_samples(name)
        return self._kept[name]
