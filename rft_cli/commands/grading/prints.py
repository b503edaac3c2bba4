"""The lines that a scorer prints in `rft grade`: the first ones are shown, the others kept in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import IO

from rft_cli.config.suggest import counted

MOST = 1000
"""Lines to show: a progress bar or a warning in each grade must not hide the summary."""


class ScorerPrints:
    """Shows lines with `say` until there are too many; `end` says where the others are, and how many."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._shown = self._kept = 0
        self._file: IO[str] | None = None

    def add(self, where: str, output: str) -> None:
        """Show what was printed at one place. Of a line that was overwritten, its last state counts."""
        lines = [f"{where}: {_last(line)}" for line in output.rstrip("\r\n").split("\n")]
        room = MOST - self._shown
        if shown := lines[:room]:
            self._shown += len(shown)
            self._say("\n".join(shown))
        if kept := lines[room:]:
            if self._file is None:
                self._file = self._open()
                self._say(f"{MOST:,} printed lines are shown, the others go to {self._file.name}")
            self._kept += len(kept)
            self._file.write("\n".join([*kept, ""]))

    def end(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._say(f"{counted(self._kept, 'more printed line')}: {self._file.name}")
            self._file = None

    @staticmethod
    def _open() -> IO[str]:
        return tempfile.NamedTemporaryFile(
            "w", prefix="rft-grade-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        )


def _last(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]
