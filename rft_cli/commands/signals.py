"""Signals that end a command in good order: what is half-made is removed, the exit code is 128 + the signal's."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from rft_cli.errors import Interrupted


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGUSR1 end the block as Interrupted; a signal that is ignored (nohup) stays ignored."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Interrupted(number, f"interrupted by {signal.Signals(number).name}")

    signals = [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]
    before = {number: signal.getsignal(number) for number in signals}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
