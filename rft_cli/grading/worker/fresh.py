"""`grader.fresh`: each completion is graded in a fork of the process that loaded the scorer, which itself grades none.

Whatever a grade changes, data or code, is gone with its process. What the scorer's file started at its import is not
copied: threads are not there in a fork.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import select
import time
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from rft_cli.grading.isolation.process import die_with_parent
from rft_cli.grading.wire.frames import ANSWER
from rft_cli.grading.wire.messages import GRACE_S, MARGIN_S
from rft_cli.grading.wire.work import Line, Verdict, Work
from rft_cli.grading.worker.child import Child
from rft_cli.grading.worker.crash import read_crash
from rft_cli.grading.worker.worker import Worker

_TICK_S = 0.1
_TOKEN = b"verdict\n"
_READ_BYTES = 1 << 16
_base_exception, _dumps, _len, _loads = BaseException, pickle.dumps, len, pickle.loads
_quit, _tuple, _write = os._exit, tuple, os.write
_unwatch = faulthandler.cancel_dump_traceback_later


class _Heard(NamedTuple):
    """What came out of a fork's pipe: its `verdict`, pickled, or none."""

    verdict: bytes | None = None
    late: bool = False
    garbled: bool = False


class FreshWorker(Worker):
    """Forks for each completion, and takes its verdict from a pipe."""

    def grades(self, works: Sequence[Work] | Sequence[Line]) -> list[Verdict]:
        """Grade the first works, as many as fit into the time slice. A batch scorer gets one at a time."""
        begin = time.monotonic()
        verdicts: list[Verdict] = []
        for work in works:
            if verdicts and time.monotonic() - begin > self.slice_s:
                break
            self.begun[0] = work.place
            self.cell.go_home(surely=True)
            verdicts.append(self._in_fork(work))
        return verdicts

    def _in_fork(self, work: Work | Line) -> Verdict:
        hear, answer = os.pipe()
        self.cell.guard.ours = True
        pid = os.fork()
        if pid == 0:
            self._grade_alone(work, answer)
        self.cell.guard.ours = False
        os.close(answer)
        child = Child(pid)
        try:
            heard = self._read(child, hear)
        finally:
            os.close(hear)
        if heard.verdict is not None:
            child.end(at_once=True)
            return Verdict(*_loads(heard.verdict))
        loss = child.end(late=heard.late)
        loss = loss._replace(garbled=loss.garbled or heard.garbled)
        self.cell.streams.flush()
        output = self.cell.streams.take()
        crash = read_crash(self.cell.folder, self.job.source, loss, "grading it", output)
        self.cell.faults.truncate(0)
        return crash.verdict(self.job.timeout_s)

    def _read(self, child: Child, hear: int) -> _Heard:
        """Read its pipe until the verdict is whole, or none will come."""
        os.set_blocking(hear, False)
        poll = select.poll()
        for number in (hear, child.handle):
            if number >= 0:
                poll.register(number, select.POLLIN)
        deadline = time.monotonic() + self.job.timeout_s + GRACE_S + MARGIN_S
        data = b""
        while True:
            ready = [number for number, _ in poll.poll(_TICK_S * 1000)]
            ended = child.handle in ready or (not ready and (child.gone() or child.stopped()))
            try:
                part = os.read(hear, _READ_BYTES)
                ended = ended or not part
                data += part
            except BlockingIOError:
                pass
            if len(data) >= ANSWER.size:
                token, size = ANSWER.unpack_from(data)
                if token != _TOKEN:
                    return _Heard(garbled=True)
                if len(data) >= ANSWER.size + size:
                    return _Heard(data[ANSWER.size : ANSWER.size + size])
            if ended:
                return _Heard()
            if time.monotonic() > deadline:
                return _Heard(late=True)

    def _grade_alone(self, work: Work | Line, answer: int) -> NoReturn:
        """In the fork: grade, write the verdict, end."""
        try:
            cell, parent = self.cell, self.cell.pid
            os.setpgid(0, 0)
            die_with_parent(parent)
            for number, _ in cell.pipes:
                os.close(number)
            cell.pid, cell.pipes = os.getpid(), ((answer, os.fstat(answer)),)
            self.watch(self.job.timeout_s + GRACE_S)
            verdict = self.single(work)
            cell.leave_if_forked(surely=True)
            _unwatch()
            cell.streams.flush()
            output = verdict.output + cell.streams.take()
            cell.leave_if_cut_off()
            body = _dumps(_tuple(verdict._replace(output=output)))
            _write(answer, ANSWER.pack(_TOKEN, _len(body)) + body)
        except _base_exception:
            _quit(1)
        _quit(0)
