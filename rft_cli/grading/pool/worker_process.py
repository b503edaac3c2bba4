"""One worker process, seen from its parent: started, sent a task, read from, ended."""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rft_cli.errors import RunFailed
from rft_cli.grading.isolation.output import output_path
from rft_cli.grading.isolation.process import fault_path
from rft_cli.grading.pool.tasks import Task
from rft_cli.grading.worker.ending import Child, Crash, Ending, read_crash
from rft_cli.grading.worker.messages import ANSWER, NOTHING, REQUEST, WorkerSetup, map_begun, widen

_READ_BYTES = 1 << 20
_PATIENCE_S = 60.0
"""Seconds in which a worker must read something of a request; before it does so first, it loads Python."""
# The parent's paths: rft may have been found by them, and the scorer's imports are.
_PROGRAM = """\
import sys
sys.path[:] = {path!r}
from rft_cli.grading.worker.main import main
main({requests}, {answers})
"""


class Garbled(Exception):
    """What came out of the answer pipe is not an answer of the worker's."""


class WorkerProcess:
    """Starts a worker that imports the scorer; its first answer is the report of that, which makes it `ready`.

    `answers` is the descriptor to read its answers from, which never blocks. `task` is what it is grading, and
    `begun[0]` the place of the completion that it has begun: at the last look that was `seen`, since `since`.
    """

    def __init__(self, setup: WorkerSetup, number: int, environment: Mapping[str, str]) -> None:
        self.folder = os.path.join(setup.isolation.scratch, str(number))
        os.mkdir(self.folder)
        self.begun = map_begun(f"{self.folder}.begun", new=True)
        requests, self._requests = os.pipe()
        self.answers, answers = os.pipe()
        widen(requests)
        widen(answers)
        os.set_blocking(self._requests, False)
        os.set_blocking(self.answers, False)
        self._process = self._start(setup.isolation.log_path, requests, answers, environment)
        self.child = Child(self._process.pid)
        self.ready = False
        self.task: Task | None = None
        self.seen, self.since = NOTHING, time.monotonic()
        self._source = setup.source
        self._token = secrets.token_bytes(8)
        self._received = bytearray()
        self._write(pickle.dumps((setup, self.folder, self._token), pickle.HIGHEST_PROTOCOL))

    def _start(
        self, log_path: str, requests: int, answers: int, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        program = _PROGRAM.format(path=sys.path, requests=requests, answers=answers)
        try:
            with open(log_path, "ab") as log:
                return subprocess.Popen(
                    [sys.executable, "-c", program],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(requests, answers),
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
            os.close(requests)
            os.close(answers)

    def send(self, task: Task) -> None:
        """Give it a task. It must have answered the one before."""
        self.task = task
        self.begun[0] = self.seen = NOTHING
        self.since = time.monotonic()
        self._write(task.request())

    def _write(self, body: bytes) -> None:
        """Write a request: a worker that waits for one reads all of it.

        A broken pipe shows when its end is read; a worker that reads nothing does not answer either, so it is late.
        """
        rest = memoryview(REQUEST.pack(len(body)) + body)
        poll = select.poll()
        poll.register(self._requests, select.POLLOUT)
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            while rest and poll.poll(_PATIENCE_S * 1000):
                rest = rest[os.write(self._requests, rest) :]

    def read(self) -> bool:
        """Take in what is there to read; False where the pipe has ended."""
        while True:
            try:
                part = os.read(self.answers, _READ_BYTES)
            except BlockingIOError:
                return True
            self._received += part
            if len(part) < _READ_BYTES:
                return bool(part)

    def answer(self) -> bytes | None:
        """The next answer that was read; None where it is not whole yet; raises Garbled."""
        if len(self._received) < ANSWER.size:
            return None
        token, size = ANSWER.unpack_from(self._received)
        if token != self._token:
            raise Garbled
        end = ANSWER.size + size
        if len(self._received) < end:
            return None
        body = bytes(self._received[ANSWER.size : end])
        del self._received[:end]
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
        """End it without waiting."""
        self._close(at_once=True)

    def _close(self, *, late: bool = False, at_once: bool = False) -> Ending:
        ending = self.child.end(late=late, at_once=at_once)
        self._process.returncode = ending.code
        os.close(self._requests)
        os.close(self.answers)
        return ending
