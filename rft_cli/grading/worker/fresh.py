"""`grader.fresh`: each completion is graded in a fork of the process that loaded the scorer, which itself grades none.

Whatever a grade changes, data or code, is gone with its process. What the scorer's file started at its import is not
copied: threads are not there in a fork.
"""

from __future__ import annotations

import contextlib
import faulthandler
import marshal
import os
import select
import time
from collections.abc import Sequence
from typing import NoReturn

from rft_cli.grading.isolation.process import CUT_OFF, die_with_parent
from rft_cli.grading.worker.ending import Child, read_crash
from rft_cli.grading.worker.messages import ANSWER, GRACE_S, MARGIN_S, Outcome, Work, write_answer
from rft_cli.grading.worker.worker import Worker

_TICK_S = 0.1
_TOKEN = b"outcome\n"
_READ_BYTES = 1 << 16
_base_exception, _dumps, _loads, _quit, _tuple = BaseException, marshal.dumps, marshal.loads, os._exit, tuple
_unwatch = faulthandler.cancel_dump_traceback_later


class FreshWorker(Worker):
    """Forks for each completion, and takes its outcome from a pipe."""

    def grade_loaded(self, works: Sequence[Work]) -> list[Outcome]:
        """Grade the first works, as many as fit into the time slice. A batch scorer gets one at a time."""
        begin = time.monotonic()
        outcomes: list[Outcome] = []
        for work in works:
            if outcomes and time.monotonic() - begin > self.setup.slice_s:
                break
            self.begun[0] = work[0]
            self.process.go_home()
            outcomes.append(self._grade_in_fork(work))
        return outcomes

    def _grade_in_fork(self, work: Work) -> Outcome:
        ours, theirs = os.pipe()
        self.process.forking = True
        pid = os.fork()
        if pid == 0:
            self._grade_alone(work, theirs)
        self.process.forking = False
        os.close(theirs)
        child = Child(pid)
        try:
            data, late = self._read(child, ours)
        finally:
            os.close(ours)
        if data.startswith(_TOKEN) and _is_whole(data):
            child.end(at_once=True)
            return Outcome(*_loads(data[ANSWER.size :]))
        ending = child.end(late=late)
        garbled = not _TOKEN.startswith(data[: len(_TOKEN)])
        ending = ending._replace(garbled=ending.garbled or garbled)
        self.process.streams.flush()
        output = self.process.streams.take()
        crash = read_crash(self.process.folder, self.setup.source, ending, "grading it", output)
        self.process.faults.truncate(0)
        return crash.outcome(self.setup.timeout_s)

    def _read(self, child: Child, pipe: int) -> tuple[bytes, bool]:
        """Read the fork's pipe until its answer is whole, or none will come; and whether its time was over."""
        os.set_blocking(pipe, False)
        poll = select.poll()
        for number in (pipe, child.handle):
            if number >= 0:
                poll.register(number, select.POLLIN)
        deadline = time.monotonic() + self.setup.timeout_s + GRACE_S + MARGIN_S
        data = b""
        while time.monotonic() < deadline:
            poll.poll(_TICK_S * 1000)
            ended = child.gone() or child.stopped()
            with contextlib.suppress(BlockingIOError):
                part = os.read(pipe, _READ_BYTES)
                ended = ended or not part
                data += part
            if ended or _is_whole(data):
                return data, False
        return data, True

    def _grade_alone(self, work: Work, pipe: int) -> NoReturn:
        """In the fork: grade, write the outcome, end."""
        try:
            process = self.process
            os.setpgid(0, 0)
            die_with_parent(process.pid)
            for number in process.pipes:
                os.close(number)
            self.watch_grade()
            outcome = self.grade_one(work)
            process.leave_if_forked()
            _unwatch()
            process.streams.flush()
            output = outcome.output + process.streams.take()
            write_answer(pipe, _TOKEN, _dumps(_tuple(outcome._replace(output=output))))
        except _base_exception:
            _quit(CUT_OFF)
        _quit(0)


def _is_whole(data: bytes) -> bool:
    """Whether an answer is whole; so is what no answer begins with."""
    if len(data) < ANSWER.size:
        return False
    token, size = ANSWER.unpack_from(data)
    return bool(token != _TOKEN or len(data) >= ANSWER.size + size)
