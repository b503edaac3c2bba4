"""A job that samples a batch ahead: in order, with grading behind the training, and exact whatever stops it."""

import json
from pathlib import Path

import pytest

from rft_cli.runs import Run
from tests.command import FULL
from tests.faults import jobs
from tests.faults.outcome import differences, loaded, state_of
from tests.faults.test_exactness import killed_at

AHEAD = {"rollout.ahead": 1, "optim.n_epochs": 2, "checkpoint.every_steps": 3, "checkpoint.keep_last": 9}
"""Four rollout batches of four steps: checkpoints inside of batches (3, 6, 9, 15) and between two (8, 12)."""
BATCHES, COMPLETIONS = 4, 8
KINDS = {
    "lora and a critic": jobs.LORA,
    "full weights": {},
    "grpo with one step a batch": {"algorithm": "grpo", "ppo.passes": 1, "ppo.minibatches": 1},
    "rloo": {"algorithm": "rloo"},
}
SOME = KINDS if FULL else list(KINDS)[:1]
SCORER = '''
import json
import time
from pathlib import Path

from helper import reward

SLOW = Path("slow.jsonl")


def score(completion, example):
    """Where there is slow.jsonl, a grade takes 0.1 s, and says there when that was."""
    if SLOW.exists():
        began = time.time()
        time.sleep(0.1)
        with SLOW.open("a") as file:
            file.write(json.dumps([began, time.time()]) + "\\n")
    return reward(completion)
'''
STEPS_TIMED = """
import time
from rft_cli.training.hooks.journal import Journal
def on_optimizer_step(self, args, state, control, **_):
    with open("steps.txt", "a") as file:
        file.write(f"{time.time()}\\n")
Journal.on_optimizer_step = on_optimizer_step
"""


def folder_of(path: Path) -> Path:
    folder = jobs.make_files(path)
    (folder / "scorer.py").write_text(SCORER)
    return folder


def terminated_at(step):
    """Python for a child: SIGTERM to itself in this optimizer step."""
    return killed_at(step).replace("SIGKILL", "SIGTERM")


@pytest.fixture(scope="module", params=SOME)
def whole(request, warm, tmp_path_factory):
    """The job where nothing stops it and grading is slow, with its settings."""
    settings = AHEAD | KINDS[request.param]
    folder = folder_of(tmp_path_factory.mktemp("ahead"))
    (folder / "slow.jsonl").touch()
    ended = warm.start(folder, jobs.create_arguments(settings), before=STEPS_TIMED).wait()
    assert ended.code == 0, ended.err[-3000:]
    return settings, Run(folder / "runs" / "job")


def test_a_batch_is_sampled_before_the_one_before_it_is_trained_on_and_none_in_vain(whole):
    settings, run = whole
    steps = 1 if settings.get("ppo.passes") == 1 else 4
    ahead = {
        step: [one["number"] for one in loaded(run.checkpoint_path(step) / "rollout-0.pt")["ahead"]]
        for step in run.checkpoints()
    }
    # Step s is of batch (s - 1) // steps; the last one has none behind it.
    assert ahead == {step: [n for n in [(step - 1) // steps + 1] if n < BATCHES] for step in ahead}
    assert len([*run.rollouts()]) == BATCHES * COMPLETIONS


def test_a_batch_is_graded_while_the_one_before_it_is_trained_on(whole):
    settings, run = whole
    steps = 1 if settings.get("ppo.passes") == 1 else 4
    folder = run.path.parents[1]
    grades = [json.loads(line) for line in (folder / "slow.jsonl").read_text().splitlines()]
    stepped = [float(line) for line in (folder / "steps.txt").read_text().splitlines()]
    assert len(stepped) == BATCHES * steps
    # In order: the baseline, batches 0, 1 and 2, a validation, batch 3, a validation, of 8 each.
    for number, place in enumerate((16, 24, 40)):
        graded = grades[place : place + COMPLETIONS]
        trained = stepped[number * steps : (number + 1) * steps]
        assert graded[0][0] < trained[-1], (
            f"batch {number + 1} is graded behind the updates of batch {number}"
        )
        assert trained[0] < graded[-1][1], (
            f"batch {number + 1} is graded before the updates of batch {number}"
        )
    lines = run.metrics()
    assert all(line["grade_wait_seconds"] < line["grade_seconds"] for line in lines[steps:])
    assert all(line["update_seconds"] > -1e-3 for line in lines)


def test_training_is_off_policy_by_one_batch(whole):
    settings, run = whole
    if settings.get("algorithm", "ppo") != "ppo":
        pytest.skip("logs no ratio")
    ratios = [line["ratio"] for line in run.metrics()]
    assert ratios[0] == pytest.approx(1.0, abs=1e-5)
    # The first step of the second batch: the policy has moved since that was sampled.
    assert abs(ratios[4] - 1.0) > 1e-4


@pytest.mark.fault("a job that samples ahead, killed or stopped")
@pytest.mark.parametrize(
    ("stopped", "step"),
    [(killed_at, step) for step in ((2, 5, 7, 10, 14) if FULL else (5,))] + [(terminated_at, 10)],
)
def test_stopped_and_resumed_it_comes_to_the_same_bits(whole, warm, tmp_path, stopped, step):
    settings, run = whole
    step = min(step, run.metrics()[-1]["step"] - 1)
    folder_of(tmp_path)
    ended = warm.start(tmp_path, jobs.create_arguments(settings), before=stopped(step)).wait()
    assert ended.code == (-9 if stopped is killed_at else 143), ended.err[-3000:]
    ended = warm.start(tmp_path, jobs.RESUME).wait()
    assert ended.code == 0, ended.err[-3000:]
    found = state_of(Run(tmp_path / "runs" / "job"))
    # A signal leaves a checkpoint more.
    assert not differences(state_of(run), found, but="" if stopped is killed_at else "checkpoints")
