"""The pool's process: runs no user code. It forks the process that does, hands it tasks, and replaces it.

The scorer's process holds two pipes and nothing else of rft's, so whatever it does to its descriptors, its parent or
itself, the pool's own channel stays whole. It is replaced when it ends, stops, hangs, answers nonsense, or says that a
grade changed code or settings; the answer then covers only grades that were made before that.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import select
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

from rft_cli.grading.sandbox.capture import output_path
from rft_cli.grading.sandbox.isolation import die_with_parent, fault_path, lead_session
from rft_cli.grading.wire.terms import GRACE_S, IMPORT_LIMIT_S, Job
from rft_cli.grading.worker.runner import HEAD, REQUEST, Mode, serve, widen

TASK_BYTES = 8
_TICK_S = 0.1
_MARGIN_S = 1.0
"""Seconds after which a process is killed that ended its grade neither by alarm nor by watchdog."""
_HABIT = 5
"""What so many grades in a row change, each in a fresh process, is how this scorer works, and is let be."""


class WorkerLost(Exception):
    """The scorer's process `pid` ended with `code` (negative: a signal); `late`: because its time was over.

    `garbled`: it lived on, but its pipes were of no more use.
    """

    def __init__(self, pid: int, code: int, late: bool, garbled: bool) -> None:
        super().__init__(pid, code, late, garbled)
        self.pid = pid
        self.code = code
        self.late = late
        self.garbled = garbled


class _Answer(NamedTuple):
    """`works` that were graded, as bytes; `changed`: what they changed for later ones, joined by line ends."""

    works: int
    changed: str
    body: bytes


class _Runner:
    """The forked process that runs the scorer, seen from the keeper."""

    def __init__(self, job: Job, ignored: frozenset[str]) -> None:
        self._token = secrets.token_bytes(8)
        self._progress = mmap.mmap(-1, 1)
        request_end, self._requests = os.pipe()
        self._answers, answer_end = os.pipe()
        widen(self._requests)
        widen(self._answers)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            serve(job, parent, (request_end, answer_end), self._token, self._progress, ignored)
        os.close(request_end)
        os.close(answer_end)
        self._left = b""
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        self._handle = -1
        if hasattr(os, "pidfd_open"):  # tells the end at once: a child may hold the pipe open
            with contextlib.suppress(OSError):
                self._handle = os.pidfd_open(self.pid)
                self._poll.register(self._handle, select.POLLIN)

    def send(self, mode: Mode, packed: bytes) -> None:
        data = memoryview(REQUEST.pack(mode, len(packed)) + packed)
        try:
            while data:
                data = data[os.write(self._requests, data) :]
        except BrokenPipeError:
            raise self.end() from None

    def receive(self, limit_s: float) -> _Answer:
        """Its answer; raises WorkerLost where none comes, and nothing moves for `limit_s`."""
        token, count, changed, size = HEAD.unpack(self._take(HEAD.size, limit_s))
        if token != self._token:
            raise self.end()
        body = self._take(changed + size, limit_s)
        return _Answer(count, body[:changed].decode(), body[changed:])

    def _take(self, size: int, limit_s: float) -> bytes:
        parts, have = [self._left], len(self._left)
        seen, since = self._progress[0], time.monotonic()
        while have < size:
            ready = [number for number, _ in self._poll.poll(_TICK_S * 1000)]
            if self._answers in ready:
                part = os.read(self._answers, 1 << 16)
                if not part:
                    raise self.end()
                parts.append(part)
                have += len(part)
            elif ready or self._gone() or self._stopped():
                raise self.end()
            elif self._progress[0] != seen:
                seen, since = self._progress[0], time.monotonic()
            elif time.monotonic() - since > limit_s:
                raise self.end(late=True)
        data = b"".join(parts)
        self._left = data[size:]
        return data[:size]

    def _gone(self) -> bool:
        """Whether it has ended, without taking note of that."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _stopped(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # it has ended, and can't be stopped any more
            return False

    def end(self, *, late: bool = False, at_once: bool = False) -> WorkerLost:
        """Kill what is left of it, and of what it started; how it ended."""
        stopped = self._stopped()
        # A process that closed its pipes is about to end by itself: its own code says more.
        deadline = time.monotonic() + (0 if late or stopped or at_once else 0.5)
        while not self._gone() and time.monotonic() < deadline:
            time.sleep(0.002)
        garbled = not (late or stopped or at_once or self._gone())
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):  # what it started and left in its session
            os.killpg(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        for number in (self._requests, self._answers, *((self._handle,) if self._handle >= 0 else ())):
            os.close(number)
        return WorkerLost(self.pid, -signal.SIGSTOP if stopped else code, late, garbled)


class Keeper:
    """Forks the scorer's process when it is needed, and again when it is lost or spoiled."""

    def __init__(self, job: Job) -> None:
        lead_session()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(job.isolation.parent)
        for pipe in range(3, 64):  # the pool's own are among them; Pebble doesn't say which
            widen(pipe)
        self._leave_streams(job.isolation.log_path)
        self._job = job
        self._runner: _Runner | None = None
        self._report: bytes = b""
        self._habits: list[frozenset[str]] = []
        self._ignored: frozenset[str] = frozenset()
        path = task_path(job.isolation.scratch, os.getpid())
        path.write_bytes(bytes(TASK_BYTES))
        with path.open("r+b") as file:
            self._task = mmap.mmap(file.fileno(), TASK_BYTES)

    @staticmethod
    def _leave_streams(log_path: str) -> None:
        """Hold no standard stream of rft's: a scorer can open those of its parent."""
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, number in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, number)
        for opened in {null, log} - {0, 1, 2}:
            os.close(opened)

    def load(self) -> bytes:
        """A pickled LoadReport; raises WorkerLost."""
        self._start()
        return self._report

    def grade(self, task: int, mode: Mode, packed: bytes) -> bytes:
        """The pickled answer for the first works of a chunk, at least one; raises WorkerLost.

        If this process dies, the task's number says whose fault that was.
        """
        self._task[:] = task.to_bytes(TASK_BYTES, "little")
        # The next ones may well do what the last ones did.
        answer = self._ask(mode | Mode.CAREFUL if self._habits else mode, packed)
        if answer.changed and not self._habits and answer.works > 1:
            # One of them made the change, and those after it may be wrong: again, up to the one that does.
            self._replace()
            answer = self._ask(mode | Mode.CAREFUL, packed)
        if answer.changed:
            self._learn(answer)
            self._replace()
        else:
            self._habits.clear()
        return answer.body

    def _ask(self, mode: Mode, packed: bytes) -> _Answer:
        runner = self._start()
        try:
            runner.send(mode, packed)
            return runner.receive(self._job.timeout_s + GRACE_S + _MARGIN_S)
        except WorkerLost:
            self._runner = None
            raise

    def _start(self) -> _Runner:
        if self._runner is None:
            self._runner = _Runner(self._job, self._ignored)
            try:
                self._report = self._runner.receive(IMPORT_LIMIT_S + _MARGIN_S).body
            except WorkerLost:
                self._runner = None
                raise
        return self._runner

    def _replace(self) -> None:
        if self._runner is not None:
            pid, scratch = self._runner.pid, self._job.isolation.scratch
            self._runner.end(at_once=True)
            self._runner = None
            shutil.rmtree(Path(scratch, str(pid)), ignore_errors=True)
            for path in (fault_path(scratch, pid), output_path(scratch, pid)):
                path.unlink(missing_ok=True)

    def _learn(self, answer: _Answer) -> None:
        if answer.works > 1:
            self._habits.clear()
        self._habits.append(frozenset(answer.changed.splitlines()))
        if len(self._habits) >= _HABIT:
            always = frozenset.intersection(*self._habits)
            self._ignored |= always
            self._habits.clear()
            if always:
                note = f"rft: every grade changes {', '.join(sorted(always))}: from now on that is let be\n"
                os.write(2, note.encode("utf-8", "backslashreplace"))


def task_path(scratch: str | Path, pid: int) -> Path:
    """Where the pool's process `pid` keeps the number of the task at hand, 8 bytes little-endian; 0 is none."""
    return Path(scratch) / f"{pid}.task"


_keeper: Keeper | None = None


def start_keeper(job: Job) -> None:
    """The pool's initializer. The scorer is loaded by the first task, which has a deadline."""
    global _keeper
    _keeper = Keeper(job)


def load() -> bytes:
    """Task: load the scorer and say how it is called, or why it can't be; a pickled LoadReport."""
    assert _keeper is not None
    return _keeper.load()


def grade_chunk(task: int, packed: bytes) -> bytes:
    """Task of this number: pickled verdicts of the first of these works, in order, at least one.

    `packed` is a pickled pair, the pickled binding and the works.
    """
    assert _keeper is not None
    return _keeper.grade(task, Mode.WORKS, packed)


def grade_lines(task: int, packed: bytes) -> bytes:
    """Task of this number: a pickled Graded, the first lines of the block, at least one; `packed` as for works."""
    assert _keeper is not None
    return _keeper.grade(task, Mode.LINES, packed)
