"""A job of two processes that is stopped at random moments: what it comes to when it is resumed, bit by bit."""

import random
import shutil
import signal
import time

import psutil
import pytest

from rft_cli.runs import Run
from tests.command import FULL
from tests.faults import jobs
from tests.faults.outcome import differences, state_of

SETTINGS = {
    **jobs.LORA, "optim.n_epochs": 2, "ppo.passes": 1, "checkpoint.every_steps": 1,
    "distributed.collective_timeout_s": 20, "validation.every_epochs": "auto", "validation.every_completions": 8,
}  # fmt: skip
"""Two epochs of two rollout batches, each validated."""
STOPS = ("a rank", "the parent", "SIGTERM", "asleep")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.fault("killed, signalled and put to sleep with 2 processes, at random moments"),
]


def begin(folder, ahead):
    arguments = [*jobs.create_arguments({**SETTINGS, "rollout.ahead": ahead}), "--num-processes", "2"]
    return jobs.run_outside(folder, arguments, traced=False, **jobs.plant(folder))


@pytest.fixture(scope="module", params=[0, 1] if FULL else [1])
def undisturbed(request, tmp_path_factory):
    """What the job comes to where nothing stops it, the seconds from its first step's line to its end, and its batches
    ahead."""
    folder = jobs.make_files(tmp_path_factory.mktemp("undisturbed"))
    run = Run(folder / "runs" / "job")
    process = begin(folder, request.param)
    jobs.wait_for(lambda: run.metrics_path.exists() or not process.alive, 240)
    began = time.monotonic()
    ended = process.wait()
    assert ended.code == 0, ended.err[-3000:]
    state = state_of(run)
    assert {"rollout-0.pt", "rollout-1.pt", "rng_state_0.pth", "rng_state_1.pth"} < {*state.training}
    return state, time.monotonic() - began, request.param


def stop(process, how, draw):
    """The exit code with which the job must end now, and what it must say."""
    process.family()
    if how in ("a rank", "asleep"):
        number = draw.randrange(2)
        rank = process.rank(number)
        rank.send_signal(signal.SIGKILL if how == "a rank" else jobs.SLEEP)
        told = "was killed by SIGKILL" if how == "a rank" else "did not answer"
        return 3, f"process {number} of 2 (pid {rank.pid}) {told}"
    number = signal.SIGKILL if how == "the parent" else signal.SIGTERM
    process.signal(number)
    return (-number, "") if how == "the parent" else (128 + number, "interrupted by SIGTERM")


@pytest.mark.parametrize("seed", range(12 if FULL else 1))
def test_two_processes_come_to_the_same_bits(undisturbed, tmp_path, seed):
    expected, seconds, ahead = undisturbed
    how, draw = STOPS[seed % len(STOPS)], random.Random(seed)
    jobs.make_files(tmp_path)
    run = Run(tmp_path / "runs" / "job")
    while True:
        process = begin(tmp_path, ahead)
        # Baseline, first steps and all that follows: the moment lies between the baseline's samples and the end.
        jobs.wait_for(lambda p=process: run.has_samples("step-000000") or not p.alive, 240)
        time.sleep(draw.uniform(0.0, 1.0) * seconds)
        try:
            code, said = stop(process, how, draw)
        except (psutil.NoSuchProcess, ProcessLookupError, KeyError):
            code, said = None, ""  # it was over
        ended = process.wait()
        if run.info["status"] != "finished":
            break
        shutil.rmtree(run.path)
    assert ended.code == code, ended.err[-3000:]
    assert said in ended.err
    if how == "a rank":
        assert "memory may have run out" in ended.err
        assert "closed by peer" not in ended.err
        assert "launch.log; resume with: rft train --resume" in ended.err
    ended = jobs.run_outside(tmp_path, jobs.RESUME, traced=False).wait()
    assert ended.code == 0, ended.err[-3000:]
    assert not differences(expected, state_of(run), but="checkpoints" if how == "SIGTERM" else "")
