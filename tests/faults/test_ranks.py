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
    pytest.mark.timeout(900),
    pytest.mark.fault("a process of two killed, stopped, asleep, raising, orphaned"),
]
LIMIT_S = 20
"""Not shorter: two processes that start on a busy machine may be seconds apart."""
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

    def go(*, steps: int = 3) -> Process:
        settings = {**SETTINGS, "distributed.collective_timeout_s": LIMIT_S}
        arguments = [*create_arguments(settings, "two"), "--num-processes", "2", "--quiet"]
        job = run_outside(tmp_path, arguments, traced=False, **variables)
        begun.append(job)
        if steps:
            wait_for(
                lambda: not job.alive or (metrics.exists() and metrics.read_bytes().count(b"\n") >= steps),
                240,
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
    assert "launch.log; resume with: rft train --resume" in done.err
    assert "Traceback" not in done.err
    return done


def timed_out(job: Process, folder: Path, stopped: str = "") -> str:
    """It has ended in about the timeout, with process 1 named; the log has the stacks of both."""
    pid = job.rank(1).pid
    begun = time.monotonic()
    done = ended(job, folder, within=LIMIT_S + 40)
    assert time.monotonic() - begun > LIMIT_S - 5
    assert done.err.splitlines()[-2:] == [
        f"error: the training processes waited {LIMIT_S} s for one another (distributed.collective_timeout_s); "
        f"process 1 of 2 (pid {pid}) did not answer{stopped}",
        f"  fix: the stack of each is in {RUN}/logs/launch.log; resume with: rft train --resume {RUN}",
    ]
    log = (folder / RUN / "logs" / "launch.log").read_text()
    assert "process 0:\nTraceback (most recent call last):\n" in log
    return log.partition(f"process 1 (pid {pid}) is at:\n")[2]


@COVERED
def test_a_stopped_process_is_named(start: Start, tmp_path: Path) -> None:
    job = start()
    job.rank(1).suspend()
    assert "training/rank_main.py" in timed_out(job, tmp_path, ", it was stopped (SIGSTOP)")


@COVERED
def test_a_sleeping_process_is_named_its_stack_kept_and_the_run_goes_on(start: Start, tmp_path: Path) -> None:
    job = start()
    job.rank(1).send_signal(SLEEP)
    assert "in go_to_sleep\n" in timed_out(job, tmp_path)
    config = tmp_path / RUN / "config.yaml"  # as an earlier version wrote it
    config.write_text(config.read_text().replace("  collective", "  hang_timeout_s: 6.0\n  collective"))
    resumed = run_outside(tmp_path, ["train", "--resume", str(RUN)], traced=False).wait()
    assert resumed.code == 0, resumed.err[-3000:]
    assert "distributed.hang_timeout_s: no longer a setting, ignored" in resumed.err
    assert Run(tmp_path / RUN).info["status"] == "finished"


@COVERED
def test_a_process_that_falls_asleep_while_it_loads_is_named(start: Start, tmp_path: Path) -> None:
    job = start(steps=0)
    wait_for(lambda: len(job.ranks()) == 2 and listens(job.rank(1), SLEEP), 60)
    job.rank(1).send_signal(SLEEP)
    said = ended(job, tmp_path, within=2 * LIMIT_S + 60).err
    assert re.search(r"waited 20 s for one another .*; process 1 of 2 \(pid \d+\) did not answer", said)


@COVERED
def test_a_killed_process_ends_the_others_at_once(start: Start, tmp_path: Path) -> None:
    job = start(steps=1)
    rank = job.rank(1)
    rank.kill()
    said = ended(job, tmp_path, within=15).err
    assert f"process 1 of 2 (pid {rank.pid}) was killed by SIGKILL" in said


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
