"""One writer a run: a second one is refused by name, whatever it is, and a dead one's lock is free at once."""

import signal
import time

import pytest

from rft_cli.errors import UsageError
from rft_cli.runs import Run
from tests.faults.jobs import in_child, make_files, rft_here, small_arguments, tree, wait_for

pytestmark = pytest.mark.fault("two writers")
STAYS_IN_ITS_FIRST_STEP = """
import time
from rft_cli.training.hooks.validate_and_save import ValidateAndSave
ValidateAndSave.on_step_end = lambda *_, **__: time.sleep(1e6)
"""


def test_a_job_is_alone_and_when_it_is_killed_before_its_first_checkpoint_it_starts_over(tmp_path, warm):
    make_files(tmp_path, rows=4)
    flags = small_arguments("a")
    job = warm.start(tmp_path, flags, before=STAYS_IN_ITS_FIRST_STEP)
    try:
        run = Run(tmp_path / "runs" / "a")
        wait_for((run.path / ".lock-holder").exists, 120)
        for command in (("train", "--resume", "a"), ("create", "--resume", "a", "--force")):
            found = rft_here(tmp_path, *command)
            assert found.code == 2
            assert found.errors == [
                f"error: runs/a is being written by process {job.pid} on {run.info['host']}"
            ]
        again = rft_here(tmp_path, *flags)
        assert again.code == 2
        assert again.errors == ["error: runs/a exists already"]
        wait_for((run.path / "rollouts" / "step-000000.jsonl").exists, 120)
    finally:
        job.signal(signal.SIGKILL)
        assert job.wait().code == -signal.SIGKILL
    assert run.checkpoints() == []
    assert run.info["status"] == "running"
    baseline = [(s.completion, s.grade.reward) for s in run.read_samples("step-000000")]
    run.append_metrics({"step": 1, "reward": 0.1})  # what a slower death would have left
    (run.path / ".run.json.1-0123abcd").write_text("{")
    with run.lock():  # free at once
        held = rft_here(tmp_path, "train", "--resume", "a")
    assert held.code == 2
    before = run.info
    done = rft_here(tmp_path, "train", "--resume", "a")
    assert done.code == 0, done.err
    assert "runs/a was stopped before its first checkpoint: it starts over" in done.err
    assert [row["step"] for row in run.metrics()] == [1, 2]
    assert len(list(run.rollouts())) == 16
    assert run.validated_steps() == [0, 1, 2]
    assert [(s.completion, s.grade.reward) for s in run.read_samples("step-000000")] == baseline
    assert [path.name for path in run.path.glob(".*.1-*")] == []
    assert {key: run.info[key] for key in ("created", "hashes", "settings", "base")} == {
        key: before[key] for key in ("created", "hashes", "settings", "base")
    }


def test_of_many_processes_that_make_the_same_run_one_does(tmp_path):
    """Six at once, in processes of their own, with a name and without."""

    def make(name: str, at: float) -> str:
        time.sleep(max(0.0, at - time.monotonic()))
        try:
            run = Run.create(tmp_path / "runs", name or None, config_yaml="", info={"model": "m"})
        except UsageError as error:
            return error.message
        return f"made {run.name} {run.info['name']}"

    for name in ("a", ""):
        at = time.monotonic() + 0.3
        children = [in_child(lambda name=name, at=at: make(name, at)) for _ in range(6)]
        said = sorted(said for _, said in (end() for end in children))
        if name:
            assert said == [*[f"{tmp_path}/runs/a exists already"] * 5, "made a a"]
        else:
            names = [line.split()[1:] for line in said]
            assert len({first for first, _ in names}) == 6
            assert all(first == second for first, second in names)
    assert not list((tmp_path / "runs").glob(".new-*"))


def test_a_refused_writer_deletes_nothing(tmp_path):
    """A run in which nothing was measured yet belongs to the process that makes it."""
    run = Run.create(tmp_path, "a", config_yaml="seed: 0\n", info={"model": "m"})
    with run.lock():
        before = tree(run.path)
        with pytest.raises(UsageError, match="is being written by process"):
            Run(run.path).check_free()
        with pytest.raises(UsageError, match="is being written by process"), Run(run.path).session():
            pytest.fail("the lock was given twice")
        assert tree(run.path) == before
    run.check_free()
