"""The socket between a parent and the training processes it started: one JSON object a line, both ways.

A process says hello with its rank and pid, then sends its events, the error that ended it, and goodbye. The parent
says when to stop. A process whose parent is gone ends at once: nobody but the parent holds the run.
"""

from __future__ import annotations

import json
import os
import queue
import re
import socket
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from time import monotonic
from typing import Any

from rft_cli.errors import GateNotMet, Interrupted, OutOfMemory, RftError, RunFailed, UsageError, UsageErrors
from rft_cli.events import Event

ADDRESS = "RFT_INTERNAL_SOCKET"
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
    """What an error says about its cause. Of several processes' errors, the one with the lowest value counts."""

    OWN = 0
    """Something failed in the process that raised it."""
    TIMED_OUT = 1
    """Another process did not answer within the collective timeout."""
    LOST_PEER = 2
    """Another process is gone."""


class Reporter:
    """A training process's end. `on_stop` is called with the signal's number, in a thread of its own."""

    def __init__(self, address: str, rank: int, on_stop: Callable[[int], None]) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)
        self._lock = threading.Lock()
        self._open = True
        self._rank = rank
        self._send({"hello": rank, "pid": os.getpid()})
        threading.Thread(target=self._listen, args=(on_stop,), daemon=True).start()

    def event(self, event: Event) -> None:
        self._send(event.to_json())

    def error(self, error: BaseException) -> None:
        """What ends this process."""
        self._send(error_to_json(error, self._rank))

    def goodbye(self) -> None:
        """All is done: what comes after is the interpreter's own end."""
        self._send({"goodbye": True})
        self._open = False

    def _send(self, row: dict[str, Any]) -> None:
        with suppress(OSError), self._lock:  # the parent is gone: _listen ends this process
            self._socket.sendall(json.dumps(row).encode() + b"\n")

    def _listen(self, on_stop: Callable[[int], None]) -> None:
        with suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                on_stop(int(json.loads(line)["stop"]))
        if self._open:
            os._exit(1)


@dataclass(frozen=True, slots=True)
class Said:
    """A line of the process `rank`, or (`row` None) that its end of the socket was closed, at a monotonic time."""

    rank: int
    at: float
    row: dict[str, Any] | None


class Listener:
    """The parent's end."""

    def __init__(self, server: socket.socket, address: str) -> None:
        self.address = address
        self.pids: dict[int, int] = {}
        self._server = server
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._stop: int | None = None

    def take(self, seconds: float) -> list[Said]:
        """What was said since the last call, in order of arrival; waits so long for something."""
        found: list[Said] = []
        with suppress(queue.Empty):
            found.append(self._said.get(timeout=seconds))
            while True:
                found.append(self._said.get_nowait())
        return found

    def stop(self, number: int) -> None:
        """Tell all processes that this signal asks them to stop, also those that have yet to connect."""
        with self._lock:
            self._stop = number
            for connection in self._connections:
                _tell(connection, number)

    def accept(self) -> None:
        """Take connections until the server is closed."""
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            hello = json.loads(next(lines, b"null"))
            if hello is None:
                return
            rank = int(hello["hello"])
            self.pids[rank] = int(hello["pid"])
            with self._lock:
                self._connections.append(connection)
                if self._stop is not None:
                    _tell(connection, self._stop)
            with suppress(OSError, ValueError):  # reset, or a last line that was cut off
                for line in lines:
                    self._said.put(Said(rank, monotonic(), json.loads(line)))
            with self._lock:
                self._connections.remove(connection)
            self._said.put(Said(rank, monotonic(), None))


def _tell(connection: socket.socket, number: int) -> None:
    with suppress(OSError):
        connection.sendall(json.dumps({"stop": number}).encode() + b"\n")


@contextmanager
def listening() -> Iterator[Listener]:
    """A parent's end, in a folder that nobody else can enter."""
    with tempfile.TemporaryDirectory(prefix="rft-") as folder, socket.socket(socket.AF_UNIX) as server:
        address = str(Path(folder) / "events")
        server.bind(address)
        server.listen()
        listener = Listener(server, address)
        threading.Thread(target=listener.accept, daemon=True).start()
        try:
            yield listener
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept


def error_to_json(error: BaseException, rank: int) -> dict[str, Any]:
    """An error as a line; `error_from_json` makes it again. `at` is when it was told, on the machine's clock."""
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
    """The error that `error_to_json` told: usage, interruptions, gates and memory stay so, all else is a failed run."""
    if row["error"] == UsageErrors.__name__:
        return UsageErrors([UsageError(p["message"], p["fix"]) for p in row["problems"]])
    if row["error"] == Interrupted.__name__:
        return Interrupted(row["signal"], row["message"], row["fix"])
    kinds: dict[str, type[RftError]] = {kind.__name__: kind for kind in (UsageError, GateNotMet, OutOfMemory)}
    return kinds.get(row["error"], RunFailed)(row["message"], row["fix"])


def cause_of(error: BaseException) -> Cause:
    """Whether this error only says that another process is gone or did not answer; told by torch's words."""
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
