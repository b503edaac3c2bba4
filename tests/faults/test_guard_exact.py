"""A job with a guard: its figures wherever they are promised, and the same bits after a kill."""

import json
import re
import shlex
import shutil

import pytest

from rft_cli.runs import Run
from tests.faults import jobs
from tests.faults.outcome import differences, state_of
from tests.faults.test_exactness import killed_at

GUARD = "def score(completion):\n    return 1 / (1 + len(completion) / 20)\n"
"""Falls where the scorer's reward rises."""
JOB = {"grader.guard": "guard.py", "grader.on_guard_drop": "choose", "optim.n_epochs": 2}


def folder_of(parent, name):
    folder = jobs.make_files(parent / name)
    (folder / "guard.py").write_text(GUARD)
    return folder


@pytest.fixture(scope="module")
def whole(warm, tmp_path_factory):
    """A job with a guard, never disturbed: its run, and how it ended."""
    folder = folder_of(tmp_path_factory.mktemp("guarded"), "whole")
    ended = warm.start(folder, jobs.create_arguments(JOB)).wait()
    assert ended.code == 0, ended.err[-3000:]
    return Run(folder / "runs" / "job"), ended


def test_the_guard_is_in_events_metrics_samples_and_result(whole):
    run, ended = whole
    result = run.info["result"]["guard"]["validation"]
    samples = run.read_samples("step-000000")
    mean = sum(sample.guard.reward for sample in samples) / len(samples)
    assert result["before"]["mean"] == pytest.approx(mean)
    assert result["before"]["n"] == 8
    assert f"guard {mean:.3f} [" in ended.err
    first = run.metrics()[0]
    assert first["guard"] == pytest.approx(mean)
    assert first["guard_low"] <= first["guard"] <= first["guard_high"]
    assert (run.path / "scorer" / "guard.py").read_text() == GUARD
    assert len(run.info["hashes"]["guard"]) == 64
    # Training completions cost the guard nothing.
    assert all("guard" not in row for row in run.rollouts())
    shown = json.loads(jobs.rft_here(run.path.parents[1], "show", "job", "--json").out)
    assert shown["measured"]["guard"]["before"]["mean"] == pytest.approx(mean)
    [chart] = [chart for chart in shown["charts"] if chart["name"] == "guard"]
    assert chart["curves"][0]["values"][0] == pytest.approx(mean, abs=1e-4)
    assert chart["curves"][0]["steps"] == run.validated_steps()


def test_a_step_at_which_the_guard_fell_is_never_the_best(whole):
    """Here the guard falls exactly where the reward rises: no step beyond doubt better than the base is the best."""
    run, _ = whole
    fallen = {found["step"] for found in run.info["warnings"] if found.get("tripwire") == "guard"}
    assert int(run.info["best_step"]) not in fallen


@pytest.mark.fault("a job with a guard, killed")
def test_a_killed_job_with_a_guard_comes_to_the_same_bits(whole, warm, tmp_path):
    folder = folder_of(tmp_path, "killed")
    assert warm.start(folder, jobs.create_arguments(JOB), before=killed_at(13)).wait().code == -9
    ended = warm.start(folder, jobs.RESUME).wait()
    assert ended.code == 0, ended.err[-3000:]
    assert not differences(state_of(whole[0]), state_of(Run(folder / "runs" / "job")))


LEARNS = {
    "rollout.group_size": 4, "rollout.prompts_per_batch": 8, "rollout.max_completion_tokens": 24, "optim.n_epochs": 2,
    "checkpoint.every_steps": "auto",
}  # fmt: skip
"""Four steps with these, and completions are longer beyond doubt."""


def test_stop_ends_the_job_and_its_advice_goes_on(warm, tmp_path):
    folder = folder_of(tmp_path, "stopped")
    job = {**JOB, **LEARNS, "grader.on_guard_drop": "stop"}
    ended = warm.start(folder, jobs.create_arguments(job)).wait()
    assert ended.code == 3, ended.err[-3000:]
    assert "the guard ended the job at step 4: it fell while the reward rose" in ended.err
    run = Run(folder / "runs" / "job")
    assert (run.info["status"], run.info["best_step"], run.checkpoints()) == ("failed", 0, [4])
    [command] = re.findall(r"to go on all the same: rft (.*)", ended.err)
    ended = warm.start(folder, shlex.split(command)).wait()
    assert ended.code == 0, ended.err[-3000:]
    result = run.info["result"]
    assert result["best_step"] > 0
    assert "the guard fell by" in result["guard"]["validation"]["alarm"]
    assert result["next"].startswith("rft grade --run runs/job")


def test_a_guard_that_has_changed_is_named(whole, tmp_path):
    run, _ = whole
    shutil.copytree(run.path.parents[1], tmp_path / "copy", symlinks=True)
    copied = Run(tmp_path / "copy" / "runs" / "job")
    jobs.moved(copied, run.path.parents[1], tmp_path / "copy")
    (tmp_path / "copy" / "guard.py").write_text(GUARD + "\n")
    copied.update(status="interrupted")
    refused = jobs.rft_here(tmp_path / "copy", "train", "--resume", "job")
    assert refused.code == 2
    assert "grader.guard: " in refused.err
    assert "has changed" in refused.err


def test_a_guard_that_is_wrong_is_one_message(tmp_path):
    folder = folder_of(tmp_path, "wrong")
    missing = jobs.rft_here(folder, "create", *jobs.FILES, "--guard", "nothing.py")
    assert (missing.code, missing.err.count("Traceback")) == (2, 0)
    assert "nothing.py: no such file" in missing.err
    (folder / "guard.py").write_text("def score(completion):\n    raise ValueError('not today')\n")
    broken = jobs.rft_here(folder, "create", *jobs.FILES, "--guard", "guard.py")
    assert broken.code == 2
    assert "not today" in broken.err
    same = jobs.rft_here(folder, "create", *jobs.FILES, "--guard", "scorer.py")
    assert same.code == 2
    assert "the guard is the grader itself" in same.err
