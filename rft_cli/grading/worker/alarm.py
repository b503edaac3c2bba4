"""In a worker: the time limit of a grade, by SIGALRM in the main thread."""

from __future__ import annotations

import importlib
import signal

# Without the enum that signal.getsignal makes of it: a tenth of the cost.
_get_handler = importlib.import_module("_signal").getsignal
_setitimer, _set_handler = signal.setitimer, signal.signal
_alarm, _timer = int(signal.SIGALRM), signal.ITIMER_REAL
_AGAIN_S = 0.1
"""Rings again after that: the first ring may have been swallowed."""


class TimeIsUp(BaseException):
    """The time of this grade is over. Not an Exception, so that `except Exception` lets it through."""


class Alarm:
    """Rings in a grade after `timeout_s`. `rang` says that it did in this one, also where the scorer caught it."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.rang = False
        self._listening = False
        self._handler = self._ring

    def begin(self) -> None:
        """A grade begins. From here on TimeIsUp can come, so call it inside a `try`."""
        self.rang = False
        self._take_over()
        self._listening = True
        _setitimer(_timer, self.timeout_s, _AGAIN_S)

    def end(self) -> None:
        """The grade has ended. Call it again where a ring may have come in the middle of the first call."""
        self._listening = False
        self._take_over()

    def rest(self) -> None:
        """No grade follows for a while: stop the timer, which between grades is left to run."""
        _setitimer(_timer, 0)

    def _take_over(self) -> None:
        """Be the one that handles SIGALRM, whatever handler the scorer has set."""
        if _get_handler(_alarm) is not self._handler:
            _set_handler(_alarm, self._handler)

    def _ring(self, signal_number: int, frame: object) -> None:
        if self._listening:
            self.rang = True
            raise TimeIsUp
