"""A status line on a terminal, overwritten as a command proceeds."""

from __future__ import annotations

import sys
import time

from rich.cells import set_cell_size
from rich.console import Console

from rft_cli.console.events import choose_mode
from rft_cli.console.text import clean

_EVERY_S = 0.5


class StatusLine:
    """Drawn on standard error if that is a terminal; `quiet`: never."""

    def __init__(self, quiet: bool) -> None:
        self._live = choose_mode(quiet) == "live"
        self._drawn_at = float("-inf")
        self._shown = False

    @property
    def due(self) -> bool:
        """Whether a new text is worth making: not more than twice a second."""
        return self._live and time.monotonic() - self._drawn_at > _EVERY_S

    def show(self, text: str) -> None:
        """Draw this text in place of the last, cut off where the terminal ends."""
        if self._live:
            # A line that wraps can't be written over; the last column wraps on some terminals.
            width = max(1, Console(file=sys.stderr).width - 1)
            line = " ".join(clean(text).split())
            self._draw(set_cell_size(line, width).rstrip())
            self._drawn_at, self._shown = time.monotonic(), True

    def wipe(self) -> None:
        """Leave the line empty, for other output or the end."""
        if self._shown:
            self._draw("")
            self._shown = False

    def _draw(self, text: str) -> None:
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
