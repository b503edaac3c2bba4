"""What the system counts of a process that works, sleeps, waits for its child, or is gone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from rft_cli.training.distributed.effort import WINDOW_S, Effort, Work

BUSY = "while True: pass"
SLEEPING = "import time; time.sleep(1e6)"
WAITING = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
WRITING = "import time; f = open('file', 'wb', 0)\nwhile True: f.write(bytes(1 << 20)); time.sleep(0.2)"


@contextmanager
def running(code: str, folder: object) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", code], cwd=str(folder))
    try:
        yield child
    finally:
        for process in [*psutil.Process(child.pid).children(), child]:
            process.kill()
        child.wait()


@pytest.mark.parametrize(
    ("code", "work"),
    [(BUSY, Work.COMPUTING), (WAITING, Work.COMPUTING), (WRITING, Work.MOVING), (SLEEPING, Work.IDLE)],
)
def test_work_is_told_from_sleep(code: str, work: Work, tmp_path: object) -> None:
    with running(code, tmp_path) as child:
        effort = Effort(psutil.Process(child.pid))
        answers = []
        for _ in range(4):
            time.sleep(WINDOW_S * 1.1)
            answers.append(effort.look())
    assert answers[-1] is work, answers


def test_one_that_has_ended_works_no_more() -> None:
    child = subprocess.Popen([sys.executable, "-c", SLEEPING])
    effort = Effort(psutil.Process(child.pid))
    assert effort.look() is Work.COMPUTING  # nothing can be said yet
    child.kill()
    child.wait()
    time.sleep(WINDOW_S)
    assert effort.look() is Work.IDLE
