"""Signals end a command cleanly: it removes unfinished work and exits with 128 + the signal's number."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from rft_cli.errors import Interrupted
from rft_cli.stopping import TOGETHER_S, Stop, interruption

_END = b"\0"
_STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Interrupts:
    """A handler that raises Interrupted; inside `held` it waits for the end of the block or a second signal."""

    def __init__(self) -> None:
        self._first_at = float("-inf")
        self._holding = False
        self._pending: Interrupted | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._first_at < TOGETHER_S:
            return
        self._first_at = now
        stop = interruption(number)
        if self._holding and self._pending is None:
            self._pending = stop
            return
        raise stop

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delay Interrupted until the end of the block."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            pending, self._pending = self._pending, None
        if pending is not None:
            self._first_at = time.monotonic()
            raise pending


@contextlib.contextmanager
def signals_interrupt(*more: signal.Signals) -> Iterator[Interrupts]:
    """SIGTERM, SIGHUP, SIGUSR1 and `more` end the block as Interrupted; one that is ignored (nohup) stays ignored.

    Inside another such block it shares that one's handler.
    """
    numbers = (*_STOPPING, *more)
    present = (signal.getsignal(number) for number in numbers)
    interrupts = next((one for one in present if isinstance(one, Interrupts)), Interrupts())
    with _handled(numbers, interrupts):
        yield interrupts


@contextlib.contextmanager
def imports_whole() -> Iterator[None]:
    """Delay Interrupted while torch and its kind are imported: half a module can't be imported again."""
    present = signal.getsignal(signal.SIGTERM)
    with present.held() if isinstance(present, Interrupts) else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def signals_ask(stop: Stop, answer: Callable[[int], None] = lambda _: None) -> Iterator[None]:
    """The same signals and SIGINT are handed to `stop`, which lets the job finish its step.

    `answer` gets the first one at once, in a thread, where something is to be finished: Python runs handlers only
    between two steps of the main thread, and a backward pass of a large model is one.
    """

    def ask(number: int, _: FrameType | None) -> None:
        stop.ask(number)

    def first(number: int) -> bool:
        if number in asking and stop.is_finishing:
            answer(number)
            return True
        return False

    asking = (*_STOPPING, signal.SIGINT)
    with _handled(asking, ask), _in_a_thread(first):
        yield


@contextlib.contextmanager
def _in_a_thread(handle: Callable[[int], bool]) -> Iterator[None]:
    """Signals go to `handle` in a thread, immediately, until it returns True."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)

    def listen() -> None:
        while (byte := os.read(reads, 1)) != _END and not handle(byte[0]):
            pass

    listener = threading.Thread(target=listen, daemon=True)
    before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writes, _END)
        listener.join(timeout=1.0)
        if not listener.is_alive():
            os.close(reads)
            os.close(writes)


def ignore_signals() -> None:
    """Ignore signals while the interpreter exits, which takes a second with torch loaded."""
    for number in (*_STOPPING, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _handled(
    numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, present in before.items():
            if present is not signal.SIG_IGN:
                signal.signal(number, handler)
        yield
    finally:
        for number, present in before.items():
            signal.signal(number, present)
