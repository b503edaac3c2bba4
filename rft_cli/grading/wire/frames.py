"""The bytes between a grader and a worker: a request into one pipe, an answer out of the other, and what is begun."""

from __future__ import annotations

import contextlib
import enum
import fcntl
import mmap
import os
import struct

START = struct.Struct("<Q")
"""Before the first message to a worker: its length in bytes."""
REQUEST = struct.Struct("<BQ")
"""Before a request: its kind, and its length in bytes."""
ANSWER = struct.Struct("<8sQ")
"""Before an answer: the token of the worker, and the answer's length in bytes."""
NOTHING, WHOLE = -1, -2
"""In place of a completion's place: none is begun; a batch call for all of them is."""
_PIPE_BYTES = 1 << 20


class Kind(enum.IntEnum):
    """What a request asks for."""

    WORKS = 1
    LINES = 2


def map_begun(path: str, *, new: bool = False) -> memoryview:
    """One 64-bit number that worker and parent share: the place of the completion that the worker has begun.

    It lives in a mapped file, so that it can be read when the worker is gone.
    """
    file = os.open(path, os.O_RDWR | (os.O_CREAT if new else 0), 0o600)
    try:
        if new:
            os.write(file, NOTHING.to_bytes(8, "little", signed=True))
        return memoryview(mmap.mmap(file, 8)).cast("q")
    finally:
        os.close(file)


def widen(pipe: int) -> None:
    """Room for a whole chunk of completions: a pipe of the usual 64 kB makes both sides wait for each other."""
    with contextlib.suppress(OSError, AttributeError):  # a limit of the system's, or no Linux
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
