"""One worker process, seen from its parent: started, written to, read from, killed."""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rft_cli.errors import RunFailed
from rft_cli.grading.isolation.output import output_path
from rft_cli.grading.isolation.process import fault_path
from rft_cli.grading.wire.frames import ANSWER, NOTHING, REQUEST, START, Kind, map_begun, widen
from rft_cli.grading.wire.messages import Job
from rft_cli.grading.worker.child import Child, Loss
from rft_cli.grading.worker.crash import Crash, read_crash

_READ_BYTES = 1 << 20
# The parent's paths: rft may have been found by them, and the scorer's imports are.
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; from rft_cli.grading.worker.main import main; main({hear}, {answer})"
)


class Garbled(Exception):
    """What came out of the answer pipe is no answer of the worker's."""


class WorkerProcess:
    """Starts a worker that imports the scorer; its first answer is the report of that.

    `answers` is the descriptor of its answers, `requests` of its requests; both never block. `ready`: it has reported.
    `begun[0]` is the place of the completion that it has begun; `seen`, what that was when it last changed, at `since`.
    """

    def __init__(self, job: Job, number: int, environment: Mapping[str, str]) -> None:
        self.folder = os.path.join(job.isolation.scratch, str(number))
        os.mkdir(self.folder)
        self.begun = map_begun(f"{self.folder}.begun", new=True)
        hear, self.requests = os.pipe()
        self.answers, answer = os.pipe()
        for end in (self.requests, self.answers):
            widen(end)
            os.set_blocking(end, False)
        self._process = self._start(job.isolation.log_path, hear, answer, environment)
        self.child = Child(self._process.pid)
        self.ready = False
        self.seen, self.since = NOTHING, time.monotonic()
        self._source = job.source
        self._token = secrets.token_bytes(8)
        self._in = bytearray()
        start = pickle.dumps((job, self.folder, self._token), pickle.HIGHEST_PROTOCOL)
        self._out = memoryview(START.pack(len(start)) + start)

    def _start(
        self, log_path: str, hear: int, answer: int, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        program = _PROGRAM.format(path=sys.path, hear=hear, answer=answer)
        try:
            with open(log_path, "ab") as log:
                return subprocess.Popen(
                    [sys.executable, "-c", program],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(hear, answer),
                    env={**environment, "TMPDIR": self.folder},
                    # Signals to the terminal's processes do not reach it and what it starts.
                    start_new_session=True,
                )
        except OSError as error:
            raise RunFailed(
                f"a worker process for the grader can't be started: {error.strerror or error}",
                "set grader.workers lower, or end other processes",
            ) from error
        finally:
            os.close(hear)
            os.close(answer)

    @property
    def writing(self) -> bool:
        """Whether there is something left to write to it."""
        return bool(self._out)

    def send(self, kind: Kind, packed: bytes) -> None:
        """Give it a request. It must have answered the one before."""
        self.begun[0] = self.seen = NOTHING
        self.since = time.monotonic()
        self._out = memoryview(REQUEST.pack(kind, len(packed)) + packed)
        self.write()

    def write(self) -> bool:
        """Write what fits into the pipe; whether that was all. A broken one shows when its answer is read."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._out:
                self._out = self._out[os.write(self.requests, self._out) :]
        return not self._out

    def read(self) -> bool:
        """Take in what is there to read; False where the pipe has ended."""
        while True:
            try:
                part = os.read(self.answers, _READ_BYTES)
            except BlockingIOError:
                return True
            self._in += part
            if len(part) < _READ_BYTES:
                return bool(part)

    def answer(self) -> bytes | None:
        """The next answer that was read; None where it is not whole yet; raises Garbled."""
        if len(self._in) < ANSWER.size:
            return None
        token, size = ANSWER.unpack_from(self._in)
        if token != self._token:
            raise Garbled
        if len(self._in) < ANSWER.size + size:
            return None
        body = bytes(self._in[ANSWER.size : ANSWER.size + size])
        del self._in[: ANSWER.size + size]
        return body

    def end(self, doing: str, *, late: bool = False) -> Crash:
        """Kill what is left of it; what is known of its end. `doing` completes the sentence "… ended the process"."""
        return read_crash(self.folder, self._source, self._close(late=late), doing)

    def remove(self) -> None:
        """Remove its files."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for path in (output_path(self.folder), fault_path(self.folder), Path(f"{self.folder}.begun")):
            path.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it without a question."""
        self._close(at_once=True)

    def _close(self, *, late: bool = False, at_once: bool = False) -> Loss:
        loss = self.child.end(late=late, at_once=at_once)
        self._process.returncode = loss.code
        os.close(self.requests)
        os.close(self.answers)
        return loss
