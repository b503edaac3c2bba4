"""One of two training processes is stopped, put to sleep, made to raise, or loses its parent.

Real jobs on builtin/tiny. Faults are planted from outside, by signals; those that the process must commit itself (to
sleep, to raise) through handlers that a `sitecustomize.py` puts into every Python process of the job.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rft_cli.runs import Run
from tests.command import FULL, Ended
from tests.faults.jobs import (
    RAISE,
    SLEEP,
    Process,
    create_arguments,
    lives,
    make_files,
    plant,
    run_outside,
    wait_for,
)  # fmt: skip

SETTINGS = {
    "validation.temperature": 0, "lora.enabled": True, "rollout.max_completion_tokens": 16,
    "checkpoint.every_steps": 2, "optim.n_epochs": 2,
}  # fmt: skip
pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault("a process of two killed, stopped, hung, raising, orphaned"),
]


COVERED = pytest.mark.skipif(
    not FULL, reason="RFT_FAULTS=full: the same without a job is in unit/test_launch.py"
)
RUN = Path("runs/two")
Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Begins a job, and waits until it has made some steps."""
    make_files(tmp_path)
    variables = plant(tmp_path)
    begun: list[Process] = []
    metrics = tmp_path / RUN / "metrics.jsonl"

    def go(*, limit_s: int = 6, steps: int = 3) -> Process:
        settings = {**SETTINGS, "distributed.hang_timeout_s": limit_s}
        arguments = [*create_arguments(settings, "two"), "--num-processes", "2", "--quiet"]
        job = run_outside(tmp_path, arguments, **variables)
        begun.append(job)
        if steps:
            wait_for(
                lambda: not job.alive or (metrics.exists() and metrics.read_bytes().count(b"\n") >= steps),
                120,
            )
            assert job.alive, job.wait().err
            job.family()
        return job

    yield go
    for job in begun:
        if job.alive:
            job.signal(signal.SIGKILL)
            job.wait()


def listens(process: psutil.Process, number: int) -> bool:
    """Whether it has a handler for this signal by now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


def ended(job: Process, folder: Path, within: float) -> Ended:
    """It has failed, nothing is left running, and run.json and the message say how to go on."""
    begun = time.monotonic()
    done = job.wait(within)
    assert time.monotonic() - begun < within
    info = Run(folder / RUN).info
    assert (done.code, info["status"]) == (3, "failed")
    assert info["error"] in done.err
    assert "launch.log; go on with: rft train --resume" in done.err
    assert "Traceback" not in done.err
    return done


@COVERED
def test_a_stopped_process_is_named(start: Start, tmp_path: Path) -> None:
    job = start()
    job.rank(1).suspend()
    assert re.search(
        r"process 1 of 2 \(pid \d+\) hangs: no sign of life for \d+ s while \w+; it was stopped",
        ended(job, tmp_path, within=20).err,
    )


def test_a_sleeping_process_is_named_with_its_place(start: Start, tmp_path: Path) -> None:
    job = start()
    job.rank(1).send_signal(SLEEP)
    said = ended(job, tmp_path, within=45).err
    assert re.search(r"process 1 of 2 \(pid \d+\) hangs: no progress for \d+ s while \w+", said)
    assert re.search(r"process 1 is at \S+\.py:\d+ in \w+", said)
    assert "go_to_sleep" in (tmp_path / RUN / "logs" / "launch.log").read_text()  # the dumped stack


def test_a_process_that_falls_asleep_while_it_loads_is_no_slow_one(start: Start, tmp_path: Path) -> None:
    job = start(steps=0)
    wait_for(lambda: len(job.ranks()) == 2 and listens(job.rank(1), SLEEP), 30)
    job.rank(1).send_signal(SLEEP)
    said = ended(job, tmp_path, within=45).err
    assert re.search(
        r"process 1 of 2 \(pid \d+\) hangs: no (sign of life|progress) for \d+ s while \w+", said
    )


@COVERED
def test_what_a_process_raises_is_what_people_see(start: Start, tmp_path: Path) -> None:
    job = start()
    job.rank(1).send_signal(RAISE)
    said = ended(job, tmp_path, within=15).err
    assert "process 1 raised ZeroDivisionError: planted (sitecustomize.py:4 in go_wrong)" in said
    assert "ZeroDivisionError: planted" in (tmp_path / RUN / "logs" / "launch.log").read_text()


def test_nobody_outlives_a_killed_parent(start: Start) -> None:
    job = start(steps=1)
    job.rank(1).suspend()  # it can't notice by itself
    ranks = [job.rank(0), job.rank(1)]
    job.signal(signal.SIGKILL)
    begun = time.monotonic()
    wait_for(lambda: not any(lives(rank) for rank in ranks), 5)
    assert time.monotonic() - begun < 2
    job.wait()
    assert time.monotonic() - begun < 5


@pytest.mark.skipif(not FULL, reason="RFT_FAULTS=full: it waits for the default limit")
def test_a_hang_ends_within_a_minute_by_default(start: Start, tmp_path: Path) -> None:
    job = start(limit_s=45)
    job.rank(1).send_signal(SLEEP)
    assert "process 1 of 2" in ended(job, tmp_path, within=60).err
