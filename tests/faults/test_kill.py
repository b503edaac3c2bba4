"""SIGKILL at random moments: the resumed job comes to the same bits as one that was never stopped."""

import random
import signal
import time

import pytest

from rft_cli.runs import Run
from tests.faults import jobs

FULL = jobs.full()
RESUME = ["train", "--resume", "runs/job"]


def killed_and_resumed(folder, start, arguments, seconds, number, seed):
    """Stop the job with this signal at up to three random moments, then let it end; the codes of each part."""
    draw = random.Random(seed)
    codes = []
    for part in range(4):
        begun = (folder / "runs" / "job").exists()
        process = start(folder, RESUME if begun else arguments)
        if part < 3:
            time.sleep(draw.uniform(0.05, 1.0) * seconds)
            process.signal(number)
        ended = process.wait()
        codes.append(ended.code)
        stopped_after_its_end = begun and ended.code == 2 and "runs/job is finished" in ended.err
        if ended.code == 0 or stopped_after_its_end:
            return codes
        assert ended.code in (-number, 128 + number), ended.err[-3000:]
    raise AssertionError(f"still not at its end: {ended.err[-3000:]}")


@pytest.fixture(scope="module", params=["lora", "full", "grpo"])
def undisturbed(request, warm, tmp_path_factory):
    """A job that nothing stops: its settings, what it came to, and how long it took."""
    settings = {"lora": jobs.LORA, "full": {}, "grpo": {"algorithm": "grpo"}}[request.param]
    folder = tmp_path_factory.mktemp(f"undisturbed-{request.param}")
    jobs.make_files(folder)
    ended = warm.start(folder, jobs.create_arguments(settings)).wait()
    assert ended.code == 0, ended.err[-3000:]
    return request.param, settings, jobs.state_of(Run(folder / "runs" / "job")), ended.seconds


@pytest.mark.fault("SIGKILL at random moments, at most 3 a run")
@pytest.mark.parametrize("seed", range(14 if FULL else 1))
def test_a_killed_job_comes_to_the_same_bits(undisturbed, warm, tmp_path, seed):
    _, settings, expected, seconds = undisturbed
    jobs.make_files(tmp_path)
    killed_and_resumed(tmp_path, warm.start, jobs.create_arguments(settings), seconds, signal.SIGKILL, seed)
    assert not jobs.differences(expected, jobs.state_of(Run(tmp_path / "runs" / "job")))


@pytest.mark.fault("the same through the real command from outside")
@pytest.mark.parametrize("seed", range(10 if FULL else 1))
@pytest.mark.parametrize("undisturbed", ["lora"], indirect=True)
def test_the_real_command_killed_from_outside(undisturbed, tmp_path, seed):
    _, settings, expected, seconds = undisturbed
    jobs.make_files(tmp_path)
    arguments = jobs.create_arguments(settings)
    killed_and_resumed(tmp_path, jobs.run_outside, arguments, 2 * seconds, signal.SIGKILL, seed)
    assert not jobs.differences(expected, jobs.state_of(Run(tmp_path / "runs" / "job")))


@pytest.mark.fault("SIGTERM, SIGINT, SIGUSR1, SIGHUP at random moments")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
@pytest.mark.parametrize("seed", range(8 if FULL else 1))
@pytest.mark.parametrize("undisturbed", ["lora"], indirect=True)
def test_a_signalled_job_finishes_its_step_and_comes_to_the_same_bits(
    undisturbed, warm, tmp_path, number, seed
):
    _, settings, expected, seconds = undisturbed
    jobs.make_files(tmp_path)
    codes = killed_and_resumed(
        tmp_path, warm.start, jobs.create_arguments(settings), seconds, number, 100 * seed + number
    )
    assert codes[-1] in (0, 2)  # 2: stopped just after its end
    assert not jobs.differences(expected, jobs.state_of(Run(tmp_path / "runs" / "job")))
