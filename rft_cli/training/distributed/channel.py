"""The sockets between a parent and the training processes it started: one JSON object a line, both ways.

A process sends its events, the error that ended it, and goodbye. The parent sends the number of a signal that asks for
a stop. A process whose parent is gone ends at once, because the parent holds the run's lock.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from time import monotonic
from typing import Any

from rft_cli.errors import GateNotMet, Interrupted, OutOfMemory, RftError, RunFailed, UsageError, UsageErrors
from rft_cli.events import Event

SOCKET = "RFT_INTERNAL_SOCKET"
"""The environment variable with the number of the process's end."""
_LOST_PEER = re.compile(
    r"connection (was )?(closed|reset|refused)|socket closed|broken pipe|failed to recv", re.I
)
_TIMED_OUT = re.compile(
    # gloo's, in a collective
    r"timed out waiting \d+ ?ms"
    # and TCPStore's, while the processes find one another
    r"|timed out after \d+ seconds waiting for clients|client socket has timed out|wait timeout after \d+ ?ms",
    re.I,
)


class Cause(IntEnum):
    """The cause of an error. Of several processes' errors, the one with the lowest value counts."""

    OWN = 0
    """Something failed in the process that raised it."""
    TIMED_OUT = 1
    """Another process did not answer within the collective timeout."""
    LOST_PEER = 2
    """Another process is gone."""


class Reporter:
    """A training process's end. `on_stop` is called with the signal's number, in a thread of its own."""

    def __init__(self, descriptor: int, rank: int, on_stop: Callable[[int], None]) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._lock = threading.Lock()
        self._open = True
        self._rank = rank
        threading.Thread(target=self._read_stops, args=(on_stop,), daemon=True).start()

    def event(self, event: Event) -> None:
        self._send(event.to_json())

    def error(self, error: BaseException) -> None:
        """Report what ends this process."""
        self._send(error_to_json(error, self._rank))

    def goodbye(self) -> None:
        """Report that all is done: only the interpreter's own end follows."""
        self._send({"goodbye": True})
        self._open = False

    def _send(self, row: dict[str, Any]) -> None:
        # Where the parent is gone, _read_stops ends this process.
        with suppress(OSError), self._lock:
            self._socket.sendall(json.dumps(row).encode() + b"\n")

    def _read_stops(self, on_stop: Callable[[int], None]) -> None:
        with suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                on_stop(int(json.loads(line)["stop"]))
        if self._open:
            os._exit(1)


@dataclass(frozen=True, slots=True)
class Received:
    """A line of the process `rank`, or (`row` None) the end of its socket, at a monotonic time."""

    rank: int
    at: float
    row: dict[str, Any] | None


class Receiver:
    """The parent's ends, one a process, in the order of ranks."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        self._cut_off = [b"" for _ in sockets]
        self._selector = selectors.DefaultSelector()
        for rank, end in enumerate(sockets):
            end.setblocking(False)
            self._selector.register(end, selectors.EVENT_READ, rank)

    def take(self, seconds: float) -> list[Received]:
        """What was received since the last call; waits so long for something."""
        return [line for key, _ in self._selector.select(seconds) for line in self._read(key.data)]

    def stop(self, number: int) -> None:
        """Send all processes the signal that asks them to stop."""
        for end in self._sockets:
            with suppress(OSError):
                end.sendall(json.dumps({"stop": number}).encode() + b"\n")

    def _read(self, rank: int) -> list[Received]:
        try:
            data = self._sockets[rank].recv(1 << 20)
        except OSError:
            data = b""
        now = monotonic()
        if not data:
            self._selector.unregister(self._sockets[rank])
            return [Received(rank, now, None)]
        *lines, self._cut_off[rank] = (self._cut_off[rank] + data).split(b"\n")
        return [Received(rank, now, json.loads(line)) for line in lines]


def error_to_json(error: BaseException, rank: int) -> dict[str, Any]:
    """An error as a line, for `error_from_json`; `at` is the time of this call, on the machine's clock."""
    cause = cause_of(error)
    if not isinstance(error, RftError):
        error = RunFailed(f"process {rank} raised {type(error).__name__}: {error}{_place(error)}")
    several = error.problems if isinstance(error, UsageErrors) else ()
    return {
        "error": type(error).__name__,
        "message": error.message,
        "fix": error.fix,
        "problems": [{"message": p.message, "fix": p.fix} for p in several],
        "signal": error.signal_number if isinstance(error, Interrupted) else None,
        "cause": cause.value,
        "at": monotonic(),
    }


def error_from_json(row: dict[str, Any]) -> RftError:
    """The error of such a line: usage, interruptions, gates and memory keep their class, all else is RunFailed."""
    if row["error"] == UsageErrors.__name__:
        return UsageErrors([UsageError(p["message"], p["fix"]) for p in row["problems"]])
    if row["error"] == Interrupted.__name__:
        return Interrupted(row["signal"], row["message"], row["fix"])
    kinds: dict[str, type[RftError]] = {kind.__name__: kind for kind in (UsageError, GateNotMet, OutOfMemory)}
    return kinds.get(row["error"], RunFailed)(row["message"], row["fix"])


def cause_of(error: BaseException) -> Cause:
    """Whether this error only says that another process is gone or did not answer, by torch's words."""
    if isinstance(error, RuntimeError) and _TIMED_OUT.search(str(error)):
        return Cause.TIMED_OUT
    if isinstance(error, RuntimeError | OSError) and _LOST_PEER.search(str(error)):
        return Cause.LOST_PEER
    return Cause.OWN


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})"
