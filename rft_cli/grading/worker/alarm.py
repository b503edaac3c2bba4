"""In a worker: the time limit of a grade, enforced by SIGALRM in the main thread."""

from __future__ import annotations

import importlib
import signal

# Without the enum that signal.getsignal makes of it: a tenth of the cost.
_get_handler = importlib.import_module("_signal").getsignal
_setitimer, _set_handler = signal.setitimer, signal.signal
_alarm, _timer = int(signal.SIGALRM), signal.ITIMER_REAL
_AGAIN_S = 0.1
"""Seconds after which it rings again: the scorer may have caught the first exception."""


class TimeIsUp(BaseException):
    """The time of this grade is over. Not an Exception, so that `except Exception` doesn't catch it."""


class Alarm:
    """Rings in a grade after `timeout_s`. `rang` says that it did in this one, also where the scorer caught it."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.rang = False
        self._active = False
        self._handler = self._ring

    def begin(self) -> None:
        """Start the time of a grade. From here on TimeIsUp can be raised, so call it inside a `try`."""
        self.rang = False
        self._take_over()
        self._active = True
        _setitimer(_timer, self.timeout_s, _AGAIN_S)

    def end(self) -> None:
        """Stop it. Call it again where the alarm may have rung in the middle of the first call."""
        self._active = False
        self._take_over()

    def stop(self) -> None:
        """Stop the timer, which keeps running between the grades of a batch."""
        _setitimer(_timer, 0)

    def _take_over(self) -> None:
        """Set the handler of SIGALRM again where the scorer has set another."""
        if _get_handler(_alarm) is not self._handler:
            _set_handler(_alarm, self._handler)

    def _ring(self, signal_number: int, frame: object) -> None:
        if self._active:
            self.rang = True
            raise TimeIsUp
