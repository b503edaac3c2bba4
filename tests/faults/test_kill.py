"""Stopped at random moments, a job comes to the same bits as one that was never stopped."""

import random
import shutil
import signal
import time

import pytest

from rft_cli.runs import Run
from tests.command import FULL
from tests.faults import jobs
from tests.faults.outcome import differences, state_of

MOST_STOPS = 3 if FULL else 1
STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP]


def working(run, process):
    """Whether this process has the run, and with it the signals, in its hands."""
    if not (run.path / "run.json").exists():
        return False
    info = run.info
    return (info["status"], info["pid"]) == ("running", process.pid)


def last_step(run):
    lines = run.metrics()
    return lines[-1]["step"] if lines else 0


def stopped_and_resumed(folder, start, arguments, seconds, number, seed):
    """Stop the job with this signal at one to three random moments, and then let it end.

    A job that was done before the first signal came begins anew, with another moment.
    """
    draw = random.Random(seed)
    run = Run(folder / "runs" / "job")
    hits = 0
    while True:
        process = start(folder, jobs.RESUME if run.path.exists() else arguments)
        if hits < MOST_STOPS:
            if draw.random() < 0.8:  # else it may be stopped while it starts, too
                jobs.wait_for(lambda p=process: working(run, p) or not p.alive, 120)
            time.sleep(draw.uniform(0.0, 0.8) * seconds)
        if hits == MOST_STOPS or not process.alive:
            ended = process.wait()
            assert ended.code == 0, ended.err[-3000:]
            if hits:
                return
            shutil.rmtree(run.path)
            continue
        in_hand, known = working(run, process), run.path.exists()
        process.signal(number)
        step = last_step(run) if known else 0  # read now: a step's line is written after its look at signals
        ended = process.wait()
        if run.path.exists() and run.info["status"] == "finished":  # the signal came behind its end
            if hits:
                return
            shutil.rmtree(run.path)
            continue
        hits += known
        if number == signal.SIGKILL:
            assert ended.code == -number, ended.err[-3000:]
        elif in_hand:
            ended_in_good_order(run, ended, number, step)
        else:
            assert ended.code in (-number, 128 + number), ended.err[-3000:]


def ended_in_good_order(run, ended, number, step):
    """Within one step of the signal, with that step saved; the message says so, and how to go on."""
    assert ended.code == 128 + number, ended.err[-3000:]
    now = last_step(run)
    assert step <= now <= step + 1
    assert run.checkpoints()[-1:] == ([now] if now else [])
    saved = f"step {now} is saved" if now else "no step is saved yet, a resumed run starts over"
    name = signal.Signals(number).name
    said = f"error: interrupted by {name}: {saved}\n  fix: resume with: rft train --resume runs/job\n"
    assert ended.err.endswith(said), ended.err[-3000:]
    assert run.info["status"] == "interrupted"
    assert run.info["error"] == f"interrupted by {name}"


@pytest.fixture(scope="module")
def undisturbed(request, warm, tmp_path_factory):
    """A job that nothing stops: its settings, what it came to, and how long it took."""
    settings = {"lora": jobs.LORA, "full": {}, "grpo": {"algorithm": "grpo"}}[request.param]
    folder = jobs.make_files(tmp_path_factory.mktemp(f"undisturbed-{request.param}"))
    ended = warm.start(folder, jobs.create_arguments(settings)).wait()
    assert ended.code == 0, ended.err[-3000:]
    return settings, state_of(Run(folder / "runs" / "job")), ended.seconds


def comes_to_the_same_bits(undisturbed, folder, start, number, seed, but=""):
    settings, expected, seconds = undisturbed
    jobs.make_files(folder)
    stopped_and_resumed(folder, start, jobs.create_arguments(settings), seconds, number, seed)
    assert not differences(expected, state_of(Run(folder / "runs" / "job")), but)


@pytest.mark.fault("SIGKILL at random moments, at most 3 a run: all weights, GRPO")
@pytest.mark.parametrize("seed", range(8 if FULL else 1))
@pytest.mark.parametrize("undisturbed", ["full", "grpo"] if FULL else ["full"], indirect=True)
def test_a_killed_job_comes_to_the_same_bits(undisturbed, warm, tmp_path, seed):
    comes_to_the_same_bits(undisturbed, tmp_path, warm.start, signal.SIGKILL, seed)


@pytest.mark.fault("SIGKILL at random moments, at most 3 a run: LoRA with critic")
@pytest.mark.parametrize("seed", range(40 if FULL else 1))
@pytest.mark.parametrize("undisturbed", ["lora"], indirect=True)
def test_a_killed_job_with_lora_and_a_critic_comes_to_the_same_bits(undisturbed, warm, tmp_path, seed):
    comes_to_the_same_bits(undisturbed, tmp_path, warm.start, signal.SIGKILL, seed)


@pytest.mark.skipif(not FULL, reason="RFT_FAULTS=full: above it is killed in a child of a warm server")
@pytest.mark.fault("the same through the real command from outside")
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("undisturbed", ["lora"], indirect=True)
def test_the_real_command_killed_from_outside(undisturbed, tmp_path, seed):
    comes_to_the_same_bits(undisturbed, tmp_path, jobs.run_outside, signal.SIGKILL, seed)


@pytest.mark.fault("SIGTERM, SIGINT, SIGUSR1, SIGHUP at random moments")
@pytest.mark.parametrize("number", STOPS if FULL else STOPS[:1])
@pytest.mark.parametrize("seed", range(8 if FULL else 1))
@pytest.mark.parametrize("undisturbed", ["lora"], indirect=True)
def test_a_signalled_job_finishes_its_step_and_comes_to_the_same_bits(
    undisturbed, warm, tmp_path, number, seed
):
    # One more checkpoint was saved where it was stopped.
    comes_to_the_same_bits(undisturbed, tmp_path, warm.start, number, 100 * seed + number, but="checkpoints")


@pytest.mark.skipif(not FULL, reason="RFT_FAULTS=full: a signal in the tenth of a second after the message")
@pytest.mark.fault("SIGTERM, SIGINT, SIGUSR1, SIGHUP at random moments")
@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_behind_the_last_message_ends_it_no_other_way(tmp_path, again):
    """To leave takes a second, with torch loaded; the exit code is the first signal's all the same."""
    jobs.make_files(tmp_path)
    run = Run(tmp_path / "runs" / "job")
    process = jobs.run_outside(tmp_path, jobs.create_arguments({}))
    jobs.wait_for(lambda: working(run, process) and last_step(run) > 0, 120)
    process.signal(signal.SIGUSR1)
    jobs.wait_for(lambda: "resume with" in process.said or not process.alive, 60)
    time.sleep(0.1)  # the message is a system call, and then it is on its way out
    process.signal(again)
    ended = process.wait()
    assert ended.code == 128 + signal.SIGUSR1, ended.err[-3000:]
    assert ended.err.endswith("resume with: rft train --resume runs/job\n")
