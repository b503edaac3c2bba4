"""Supervised fine-tuning that is killed or signalled at any step comes to the same bits when it goes on."""

import signal

import pytest

from rft_cli.runs import Run
from tests.command import FULL
from tests.faults import jobs
from tests.faults.outcome import differences, state_of
from tests.faults.test_exactness import killed_at

SFT = {
    "algorithm": "sft",
    "sft.batch_size": 4,
    "optim.micro_batch_size": 2,
    "optim.schedule": "linear",
    "checkpoint.every_steps": 2,
}
"""Ten rows are three steps, the last with two rows: a checkpoint falls inside of every second epoch."""
KINDS = {"full": SFT, "lora": SFT | {"lora.enabled": True, "lora.dropout": 0.1}}
SIGNALLED = """
import os, signal
from rft_cli.training.hooks.validate_and_save import ValidateAndSave
went_on = ValidateAndSave.on_step_end
def on_step_end(self, args, state, control, **other):
    if state.global_step == 5:
        os.kill(os.getpid(), signal.SIGTERM)
    went_on(self, args, state, control, **other)
ValidateAndSave.on_step_end = on_step_end
"""


@pytest.fixture(scope="module")
def undisturbed(request, warm, tmp_path_factory):
    """A job that nothing stops: its settings, and what it came to."""
    folder = jobs.make_files(tmp_path_factory.mktemp(f"sft-{request.param}"), rows=10)
    ended = warm.start(folder, jobs.create_arguments(KINDS[request.param])).wait()
    assert ended.code == 0, ended.err[-3000:]
    return KINDS[request.param], state_of(Run(folder / "runs" / "job"))


@pytest.mark.fault("supervised fine-tuning, killed at a step")
@pytest.mark.parametrize("step", [1, 5] if FULL else [5])
@pytest.mark.parametrize("undisturbed", KINDS, indirect=True)
def test_killed(undisturbed, warm, tmp_path, step):
    settings, expected = undisturbed
    jobs.make_files(tmp_path, rows=10)
    arguments = jobs.create_arguments(settings)
    assert warm.start(tmp_path, arguments, before=killed_at(step)).wait().code == -signal.SIGKILL
    ended = warm.start(tmp_path, jobs.RESUME).wait()
    assert ended.code == 0, ended.err[-3000:]
    assert not differences(expected, state_of(Run(tmp_path / "runs" / "job")))


@pytest.mark.fault("supervised fine-tuning, SIGTERM at a step")
@pytest.mark.parametrize("undisturbed", ["full"], indirect=True)
def test_signalled(undisturbed, warm, tmp_path):
    settings, expected = undisturbed
    jobs.make_files(tmp_path, rows=10)
    ended = warm.start(tmp_path, jobs.create_arguments(settings), before=SIGNALLED).wait()
    assert ended.code == 128 + signal.SIGTERM, ended.err[-3000:]
    assert "step 5 is saved" in ended.err
    ended = warm.start(tmp_path, jobs.RESUME).wait()
    assert ended.code == 0, ended.err[-3000:]
    assert not differences(expected, state_of(Run(tmp_path / "runs" / "job")), but="checkpoints")
