"""What a grader and its workers say to each other: the messages, and the bytes in which they travel.

Of a grade only strings, numbers and dicts travel back: rft's side unpickles no object of the user's."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import pickle
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

from rft_cli.grading.isolation.process import Isolation
from rft_cli.grading.worker.signature import Callee

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


IMPORT_LIMIT_S = 120.0
"""Seconds that importing the scorer may take."""
GRACE_S = 1.0
"""Seconds after its timeout at which a grade that swallowed the alarm is killed, by the worker's own watchdog."""
MARGIN_S = 1.0
"""Seconds after that at which the parent kills a worker whose watchdog was turned off."""

_loads = pickle.loads


@dataclass(frozen=True, slots=True)
class ScorerSource:
    """A scorer as it stood when the grader was opened; restarted workers run these bytes, not a later edit.

    `path` is absolute, `shown` is the file as the user named it, `function` None means: look for one. `inline`: the
    text stands in a grader spec; its `grade` gets sample and item by position, whatever it calls them. `home`: the
    folder in which it runs and from which it imports too, beside its own; empty: a new one.
    """

    path: str
    shown: str
    function: str | None
    content: bytes
    inline: bool = False
    home: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the file's bytes, in hex."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What every worker of one grader gets. `fresh`: each completion is graded in a fork of the worker."""

    source: ScorerSource
    isolation: Isolation
    timeout_s: float
    memory_mb: int | None
    seed: int
    fresh: bool = False

    @property
    def slice_s(self) -> float:
        """Seconds after which a worker gives the rest of its completions back."""
        return min(self.timeout_s, 1.0)

    @property
    def openai(self) -> bool:
        """Whether the scorer must be what OpenAI takes, a function grade(sample, item) that returns a number."""
        return self.isolation.openai


class LoadReport(NamedTuple):
    """The result of loading the scorer: a `signature`, or a `message` with its `fix`; `output` is what it printed.

    `place` is the function's file:line, `callee` what its parameters are bound by.
    """

    signature: str
    message: str
    fix: str
    trace: str
    found: tuple[str, ...]
    output: str = ""
    place: str = ""
    callee: Callee = Callee("", ())


Work = tuple[int, str, bytes, bytes]
"""One completion on its way to a worker: its place in the call, its text, its row (pickled), and the other fields of
`Item` where the scorer wants one of them (pickled; else empty). Plain, because plain tuples travel fastest."""


class Item(NamedTuple):
    """One completion as a scorer gets it: its place in the call, text, data row and metadata.

    `prompt`, `ids` (the completion's token ids) and the row's `reference` are there where the scorer wants them and
    they are known.
    """

    place: int
    completion: str
    example: dict[str, Any]
    metadata: dict[str, Any]
    prompt: str | list[Any] | None = None
    ids: list[int] | None = None
    reference: Any = None


def item_of(work: Work) -> Item:
    """The completion with a row of its own, which the scorer may change."""
    place, completion, row, others = work
    if not others:
        return Item(place, completion, _loads(row), {})
    return Item(place, completion, _loads(row), *_loads(others))


class Outcome(NamedTuple):
    """One grade on its way back: failed where `kind` is set, else skipped where `reward` is None.

    `output` is what the scorer printed, where that is kept. It travels as a plain tuple.
    """

    reward: float | None
    components: dict[str, float]
    kind: str | None
    message: str
    trace: str
    seconds: float
    output: str = ""


def late_message(place: str, timeout_s: float) -> str:
    """The message of a grade that ran out of time."""
    return f"{place}: no result after {timeout_s:g} s (grader.timeout_s)"
