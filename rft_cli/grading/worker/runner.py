"""The scorer's process: hears works by one pipe, answers by another, and ends when it is left alone."""

from __future__ import annotations

import contextlib
import enum
import fcntl
import mmap
import os
import pickle
import stat
import struct
from dataclasses import replace
from typing import NoReturn

from rft_cli.grading.wire.terms import Job
from rft_cli.grading.wire.work import Block, Work, as_graded, read_lines
from rft_cli.grading.worker.worker import Worker

REQUEST = struct.Struct("<BQ")
"""Before a request: its mode, and its length in bytes."""
HEAD = struct.Struct("<8sQQQ")
"""Before an answer: the token of this process, the works it covers, the bytes of what they changed, and of the rest."""
_PIPE_BYTES = 1 << 20

_base_exception, _dumps, _len, _loads, _quit = BaseException, pickle.dumps, len, pickle.loads, os._exit
_int, _read, _tuple, _write = int, os.read, tuple, os.write
_protocol = pickle.HIGHEST_PROTOCOL


class Mode(enum.IntFlag):
    """What a request asks for. `CAREFUL`: end with the first grade that changes something for later ones."""

    WORKS = 1
    LINES = 2
    CAREFUL = 4


_LINES, _CAREFUL = int(Mode.LINES), int(Mode.CAREFUL)


def serve(
    job: Job,
    parent: int,
    pipes: tuple[int, int],
    token: bytes,
    progress: mmap.mmap,
    ignored: frozenset[str],
) -> NoReturn:
    """Run in a process that was just forked, until its end: load the scorer, then grade what is asked for.

    The first answer is the report of loading, whoever asks for it.
    """
    with contextlib.suppress(_base_exception):
        job = replace(job, isolation=replace(job.isolation, parent=parent))
        hear, answer = pipes
        worker = Worker(job, pipes, progress, ignored)
        _send(answer, token, 0, "", _dumps(_tuple(worker.load()), _protocol))
        while True:
            mode, size = REQUEST.unpack(_exactly(hear, REQUEST.size))
            count, body = _graded(worker, mode, _exactly(hear, size))
            worker.cell.leave_if_cut_off()
            _send(answer, token, count, "\n".join(worker.changed), body)
    _quit(1)


def _graded(worker: Worker, mode: int, packed: bytes) -> tuple[int, bytes]:
    """How many of the works were graded, and the verdicts. What comes is the pickled binding and what to grade.

    `Work` and `Verdict` travel as plain tuples, which takes a fraction of the time.
    """
    careful = bool(mode & _CAREFUL)
    bound, load = _loads(packed)
    worker.bind(bound)
    if mode & _LINES:
        block = Block(*load)
        lines, bad = read_lines(block)
        found = worker.chunk(lines, careful=careful)
        return _len(found), _dumps(as_graded(block, lines, found, bad), _protocol)
    works = [Work(*work) for work in load]
    verdicts = [_tuple(verdict) for verdict in worker.chunk(works, careful=careful)]
    return _len(verdicts), _dumps(verdicts, _protocol)


def _exactly(pipe: int, size: int) -> bytes:
    """This many bytes; ends the process where there are no more."""
    parts = []
    while size:
        part = _read(pipe, size)
        if not part:
            _quit(0)
        parts.append(part)
        size -= _len(part)
    return b"".join(parts)


def _send(pipe: int, token: bytes, count: int, changed: str, body: bytes) -> None:
    words = changed.encode("utf-8", "backslashreplace")
    data = HEAD.pack(token, count, _len(words), _len(body)) + words + body
    while data:
        data = data[_write(pipe, data) :]


def widen(pipe: int) -> None:
    """Room for a whole chunk of completions: a pipe of the usual 64 kB makes both sides wait for each other."""
    with contextlib.suppress(OSError, AttributeError):  # a limit of the system's, or no Linux
        if stat.S_ISFIFO(os.fstat(pipe).st_mode):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
