"""A job that samples a batch ahead: in order, with grading behind the training, and exact whatever stops it."""

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
FIRSTS = (16, 24, 40)
"""The first grades of batches 1, 2 and 3. In order: the baseline, batches 0, 1 and 2, a validation, batch 3, all of
8."""
SCORER = f'''
import time
from pathlib import Path

from helper import reward

GRADES, STEPS = Path("grades.txt"), Path("steps.txt")


def lines(file):
    return len(file.read_text().splitlines()) if file.exists() else 0


def score(completion, example):
    """Where there is grades.txt, the first grade of a batch waits for an update, and says there whether one came."""
    if GRADES.exists():
        before, until = lines(STEPS), time.monotonic() + 25
        if lines(GRADES) in {FIRSTS}:
            while lines(STEPS) == before and time.monotonic() < until:
                time.sleep(0.02)
        with GRADES.open("a") as file:
            file.write(f"{{before}} {{lines(STEPS)}}\\n")
    return reward(completion)
'''
STEPS_WRITTEN = """
from rft_cli.training.hooks.journal import Journal
begun = Journal.on_train_begin
def on_train_begin(self, *args, **other):
    open("grades.txt", "w").close()
    begun(self, *args, **other)
Journal.on_train_begin = on_train_begin
def on_optimizer_step(self, args, state, control, **_):
    with open("steps.txt", "a") as file:
        file.write("step\\n")
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
    """The job where nothing stops it, with its settings; its grader waits for updates."""
    settings = AHEAD | KINDS[request.param]
    folder = folder_of(tmp_path_factory.mktemp("ahead"))
    ended = warm.start(folder, jobs.create_arguments(settings), before=STEPS_WRITTEN).wait()
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
    written = (run.path.parents[1] / "grades.txt").read_text().splitlines()
    grades = [tuple(map(int, line.split())) for line in written]
    assert len(grades) >= (BATCHES + 3) * COMPLETIONS
    for number, place in enumerate(FIRSTS):
        # Begun before the first update on the batch before, over when there was one.
        assert grades[place][0] == number * steps
        assert grades[place][1] > grades[place][0]
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
