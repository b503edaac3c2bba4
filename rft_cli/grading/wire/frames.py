"""The bytes between a grader and a worker: a request into one pipe, an answer out of the other, and what is begun."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct

REQUEST = struct.Struct("<Q")
"""Before a request: its length in bytes."""
ANSWER = struct.Struct("<8sQ")
"""Before an answer: the token of the worker, and the answer's length in bytes."""
NOTHING, WHOLE = -1, -2
"""In place of a completion's place: none is begun; a batch call for all of them is."""
_PIPE_BYTES = 1 << 20
_len, _pack, _quit, _read, _write = len, ANSWER.pack, os._exit, os.read, os.write


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
    """Room for a whole batch of completions: a pipe of the usual 64 kB makes both sides wait for each other."""
    # Some systems set a lower limit, or have no such call.
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def read_request(pipe: int) -> bytes:
    """In a worker: the next request; ends the process where the pipe is closed."""
    (size,) = REQUEST.unpack(_exactly(pipe, REQUEST.size))
    return _exactly(pipe, size)


def write_answer(pipe: int, token: bytes, body: bytes) -> None:
    """In a worker: write one answer."""
    data = _pack(token, _len(body)) + body
    while data:
        data = data[_write(pipe, data) :]


def _exactly(pipe: int, size: int) -> bytes:
    parts = []
    while size:
        part = _read(pipe, size)
        if not part:
            _quit(0)
        parts.append(part)
        size -= _len(part)
    return b"".join(parts)
