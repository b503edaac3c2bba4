"""One of two training processes is killed, stopped, put to sleep, made to raise, or loses its parent.

Real jobs on builtin/tiny. Faults are planted from outside, by signals; those that the process must commit itself (to
sleep, to raise) through handlers that a `sitecustomize.py` puts into every Python process of the job.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PLANTS = """
import signal, time
def go_to_sleep(*_): time.sleep(1e6)
def go_wrong(*_): raise ZeroDivisionError("planted")
signal.signal(signal.SIGRTMIN + 1, go_to_sleep)
signal.signal(signal.SIGRTMIN + 2, go_wrong)
"""
SLEEP, RAISE = signal.SIGRTMIN + 1, signal.SIGRTMIN + 2
SCORER = "def score(completion):\n    return 1 / (1 + len(completion) / 20)\n"
SETTINGS = (
    "rollout.group_size=2", "rollout.prompts_per_batch=4", "validation.temperature=0", "lora.enabled=true",
    "rollout.max_completion_tokens=16", "checkpoint.every_steps=2",
)  # fmt: skip
pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault("a process of two killed, stopped, hung, raising, orphaned"),
]
FULL = os.environ.get("RFT_FAULTS") == "full"


@dataclass
class Job:
    """A running `rft` of two processes."""

    folder: Path
    rft: subprocess.Popen[str]

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "two"

    def info(self) -> dict[str, Any]:
        return json.loads((self.run / "run.json").read_text())  # type: ignore[no-any-return]

    def steps(self) -> int:
        file = self.run / "metrics.jsonl"
        return file.read_bytes().count(b"\n") if file.is_file() else 0

    def rank(self, number: int) -> psutil.Process:
        for child in psutil.Process(self.rft.pid).children():
            if "rft_cli.training.worker" in child.cmdline() and child.environ().get("RANK") == str(number):
                return child
        raise AssertionError(f"no rank {number}")

    def ends(self, within: float) -> tuple[int, str, float]:
        """Exit code, what it said, and seconds until it was over."""
        start = time.monotonic()
        _, said = self.rft.communicate(timeout=within)
        return self.rft.returncode, said, time.monotonic() - start


def wait_for(what: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def begin(folder: Path, *words: str) -> Job:
    rft = subprocess.Popen(
        [sys.executable, "-m", "rft_cli", *words],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("RFT_")},
            "PYTHONPATH": f"{folder / 'plants'}:{ROOT}",
            "HF_HUB_OFFLINE": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    return Job(folder, rft)


Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Begins a job, and waits until it has made some steps."""
    (tmp_path / "plants").mkdir()
    (tmp_path / "plants" / "sitecustomize.py").write_text(PLANTS)
    (tmp_path / "scorer.py").write_text(SCORER)
    for kind in ("train", "val"):
        lines = (ROOT / "sample_data" / f"{kind}.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / f"{kind}.jsonl").write_text("".join(lines[:8]))
    jobs: list[Job] = []

    def go(*, limit_s: int = 6, steps: int = 3) -> Job:
        limit = f"distributed.hang_timeout_s={limit_s}"
        settings = [word for setting in (*SETTINGS, limit) for word in ("--set", setting)]
        job = begin(
            tmp_path, "create", "-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py",
            "--name", "two", "--num-processes", "2", "--n-epochs", "2", "--quiet", *settings,
        )  # fmt: skip
        jobs.append(job)
        wait_for(lambda: job.steps() >= steps or job.rft.poll() is not None, 120)
        assert job.rft.poll() is None, job.rft.communicate()[1]
        return job

    yield go
    for job in jobs:
        job.rft.kill()
        job.rft.wait()


def ended_well(job: Job, said: str) -> None:
    """Nothing is left running, and run.json and the message say how to go on."""
    assert job.info()["status"] == "failed"
    assert job.info()["error"] in said
    assert "launch.log; go on with: rft train --resume" in said
    assert "Traceback" not in said
    mine = [p for p in psutil.process_iter(["cmdline"]) if str(job.run) in " ".join(p.info["cmdline"] or ())]
    assert mine == []


def test_a_killed_process_ends_the_job_and_the_job_resumes_to_its_end(start: Start) -> None:
    job = start()
    rank = job.rank(1)
    rank.kill()
    code, said, seconds = job.ends(within=30)
    assert code == 3
    assert f"process 1 of 2 (pid {rank.pid}) was killed by SIGKILL" in said
    assert "memory may have run out" in said
    assert "closed by peer" not in said
    assert seconds < 15
    ended_well(job, said)

    again = begin(job.folder, "train", "--resume", "runs/two", "--quiet")
    code, said, _ = again.ends(within=150)
    assert code == 0, said
    assert job.info()["status"] == "finished"
    rows = [json.loads(line)["step"] for line in (job.run / "metrics.jsonl").read_text().splitlines()]
    assert rows == list(range(1, 17))  # 8 rows in batches of 4, 2 passes of 2 minibatches, 2 epochs


def test_a_stopped_process_is_named(start: Start) -> None:
    job = start()
    job.rank(1).suspend()
    code, said, seconds = job.ends(within=60)
    assert code == 3
    assert re.search(
        r"process 1 of 2 \(pid \d+\) hangs: no sign of life for \d+ s while \w+; it was stopped", said
    )
    assert seconds < 20
    ended_well(job, said)


def test_a_sleeping_process_is_named_with_its_place(start: Start) -> None:
    job = start()
    job.rank(1).send_signal(SLEEP)
    code, said, seconds = job.ends(within=60)
    assert code == 3
    assert re.search(r"process 1 of 2 \(pid \d+\) hangs: no progress for \d+ s while \w+", said)
    assert re.search(r"process 1 is at \S+\.py:\d+ in \w+", said)
    assert seconds < 45
    assert "go_to_sleep" in (job.run / "logs" / "launch.log").read_text()  # the dumped stack
    ended_well(job, said)


def test_what_a_process_raises_is_what_people_see(start: Start) -> None:
    job = start()
    job.rank(1).send_signal(RAISE)
    code, said, seconds = job.ends(within=30)
    assert code == 3
    assert "process 1 raised ZeroDivisionError: planted (sitecustomize.py:4 in go_wrong)" in said
    assert seconds < 15
    assert "ZeroDivisionError: planted" in (job.run / "logs" / "launch.log").read_text()
    ended_well(job, said)


def test_nobody_outlives_a_killed_parent(start: Start) -> None:
    job = start(steps=1)
    ranks = [job.rank(0), job.rank(1)]
    everyone = psutil.Process(job.rft.pid).children(recursive=True)
    ranks[1].suspend()  # it can't notice by itself
    job.rft.kill()
    begun = time.monotonic()
    wait_for(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in ranks), 5)
    assert time.monotonic() - begun < 2
    wait_for(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in everyone), 5)


@pytest.mark.skipif(not FULL, reason="RFT_FAULTS=full: it waits for the default limit")
def test_a_hang_ends_within_a_minute_by_default(start: Start) -> None:
    job = start(limit_s=45)
    job.rank(1).send_signal(SLEEP)
    code, said, seconds = job.ends(within=90)
    assert code == 3
    assert "process 1 of 2" in said
    assert seconds < 60
