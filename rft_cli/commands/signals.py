"""Signals that end a command in good order: what is half-made is removed, the exit code is 128 + the signal's."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from rft_cli.stopping import Stop, interruption

_STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGUSR1 end the block as Interrupted; a signal that is ignored (nohup) stays ignored."""

    def stop(number: int) -> None:
        raise interruption(number)

    with _handled(_STOPPING, stop):
        yield


@contextlib.contextmanager
def signals_ask(stop: Stop) -> Iterator[None]:
    """The same signals and SIGINT are handed to `stop`, which lets the job finish its step."""
    with _handled((*_STOPPING, signal.SIGINT), stop.ask):
        yield


@contextlib.contextmanager
def _handled(numbers: tuple[signal.Signals, ...], handler: Callable[[int], None]) -> Iterator[None]:
    def call(number: int, _: FrameType | None) -> None:
        handler(number)

    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, present in before.items():
            if present is not signal.SIG_IGN:
                signal.signal(number, call)
        yield
    finally:
        for number, present in before.items():
            signal.signal(number, present)
