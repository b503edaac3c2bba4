"""An engine ends with the process that started it, and so does everything that the engine started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.command import environment

PARENT = """
import subprocess, sys, time
keeper = [sys.executable, "-m", "rft_cli.serving.keeper"]
child = subprocess.Popen([*keeper, *sys.argv[1:]], stdin=subprocess.PIPE, start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
# A shell that ignores SIGTERM, with a child that does not.
ENGINE = ("sh", "-c", "trap '' TERM; sleep 601 & echo $! > started; wait; sleep 602")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_of_a_killed_parent(tmp_path: Path, number: int) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *ENGINE],
        cwd=tmp_path,
        env=environment(traced=False),
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    keeper = psutil.Process(int(parent.stdout.readline()))
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    everything = [keeper, *keeper.children(recursive=True)]
    assert len(everything) >= 3
    os.kill(parent.pid, number)
    parent.wait(10)
    _, alive = psutil.wait_procs(everything, timeout=30)
    assert alive == []


def test_the_exit_code_is_that_of_the_command() -> None:
    keeper = [sys.executable, "-m", "rft_cli.serving.keeper"]
    for command, code in (("exit 7", 7), ("kill -9 $$", 137)):
        with subprocess.Popen(
            [*keeper, "sh", "-c", command],
            env=environment(traced=False),
            stdin=subprocess.PIPE,
            start_new_session=True,
        ) as done:
            assert done.wait(60) == code
