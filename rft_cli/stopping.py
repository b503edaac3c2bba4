"""Stop: a request to end a job cleanly. A signal sets it, training obeys at the end of a step."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

from rft_cli.errors import Interrupted

TOGETHER_S = 3.0
"""Seconds within which further signals count as the same request: terminals and service managers send several, and
people press Ctrl-C twice."""


class Stop:
    """One job's. `number` is the signal that asked first, None while nobody has."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._finishing = False
        self._ended_at = float("-inf")

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """Inside, a signal is only noted: the block looks at `number` where it can end without losing work."""
        self._finishing = True
        try:
            yield
        finally:
            self._finishing = False
            if self.number is not None:
                self._ended_at = time.monotonic()

    @property
    def is_finishing(self) -> bool:
        """Whether a first signal would wait for work to be finished."""
        return self._finishing

    def ask(self, number: int) -> None:
        """A signal came. Raises Interrupted where nothing is to be finished, and at a SIGINT behind the first signal.

        While what the first one ended is cleaned up, for TOGETHER_S, that SIGINT too is dropped.
        """
        first = self.number is None
        self.note(number)
        wanted = not self._finishing if first else number == signal.SIGINT
        now = time.monotonic()
        if wanted and now - self._ended_at >= TOGETHER_S:
            self._ended_at = now
            raise interruption(self.number or number)

    def note(self, number: int) -> None:
        """Remember the signal, from whatever thread."""
        if self.number is None:
            self.number = number


def interruption(number: int) -> Interrupted:
    """The error that ends a job which this signal stopped."""
    return Interrupted(number, f"interrupted by {signal.Signals(number).name}")
