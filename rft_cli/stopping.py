"""Stop: the wish to end a job in good order. A signal brings it, training grants it at the end of a step."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

from rft_cli.errors import Interrupted

TOGETHER_S = 3.0
"""Signals that come so soon after the first are the same wish: terminals and service managers send several, and people
press Ctrl-C twice."""


class Stop:
    """One job's. `number` is the signal that asked first, None while nobody has."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._finishing = False
        self._raised_at = float("-inf")

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """Inside, a signal is only noted: the block looks at `number` where it can end without losing work."""
        self._finishing = True
        try:
            yield
        finally:
            self._finishing = False

    def ask(self, number: int) -> None:
        """A signal came. Raises Interrupted where nothing is to be finished, and at a SIGINT that repeats itself.

        What comes within TOGETHER_S of a raised one is dropped: it would break off what that one cleans up.
        """
        impatient = self.number is not None and number == signal.SIGINT
        self.note(number)
        now = time.monotonic()
        if (impatient or not self._finishing) and now - self._raised_at >= TOGETHER_S:
            self._raised_at = now
            raise interruption(number if self.number is None else self.number)

    def note(self, number: int) -> None:
        """Remember the signal, from whatever thread."""
        if self.number is None:
            self.number = number


def interruption(number: int) -> Interrupted:
    """The error that ends a job which this signal stopped."""
    return Interrupted(number, f"interrupted by {signal.Signals(number).name}")
