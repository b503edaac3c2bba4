"""The worker process: reads requests from one pipe, writes answers to another, ends when the first one is closed."""

from __future__ import annotations

import contextlib
import os
import pickle
from typing import NoReturn

from rft_cli.grading.isolation.process import CUT_OFF
from rft_cli.grading.wire.frames import ANSWER, REQUEST, START, Kind
from rft_cli.grading.wire.work import Block, Work, as_graded, read_lines
from rft_cli.grading.worker.fresh import FreshWorker
from rft_cli.grading.worker.worker import Worker

_base_exception, _dumps, _len, _loads, _quit = BaseException, pickle.dumps, len, pickle.loads, os._exit
_read, _tuple, _write = os.read, tuple, os.write
_protocol, _LINES = pickle.HIGHEST_PROTOCOL, int(Kind.LINES)


def main(hear: int, answer: int) -> NoReturn:
    """Run until the end of this process: load the scorer, then grade what is asked for.

    The first message is a pickled triple, the job, this worker's folder and its token; the first answer is the report
    of loading, a pickled LoadReport as a plain tuple.
    """
    with contextlib.suppress(_base_exception):
        (size,) = START.unpack(exactly(hear, START.size))
        job, folder, token = _loads(exactly(hear, size))
        worker = (FreshWorker if job.fresh else Worker)(job, folder, (hear, answer))
        send(answer, token, _dumps(_tuple(worker.load()), _protocol))
        while True:
            kind, size = REQUEST.unpack(exactly(hear, REQUEST.size))
            body = _graded(worker, kind, exactly(hear, size))
            worker.cell.leave_if_cut_off()
            send(answer, token, body)
    _quit(CUT_OFF)


def _graded(worker: Worker, kind: int, packed: bytes) -> bytes:
    """The answer for the first works, at least one. What comes is the pickled binding and what to grade.

    `Work` and `Verdict` travel as plain tuples, which takes a fraction of the time.
    """
    bound, load = _loads(packed)
    worker.bind(bound)
    if kind == _LINES:
        block = Block(*load)
        lines, bad = read_lines(block)
        return _dumps(as_graded(block, lines, worker.chunk(lines), bad), _protocol)
    works = [Work(*work) for work in load]
    return _dumps([_tuple(verdict) for verdict in worker.chunk(works)], _protocol)


def exactly(pipe: int, size: int) -> bytes:
    """This many bytes; ends the process where there are no more."""
    parts = []
    while size:
        part = _read(pipe, size)
        if not part:
            _quit(0)
        parts.append(part)
        size -= _len(part)
    return b"".join(parts)


def send(pipe: int, token: bytes, body: bytes) -> None:
    """Write one answer."""
    data = ANSWER.pack(token, _len(body)) + body
    while data:
        data = data[_write(pipe, data) :]
