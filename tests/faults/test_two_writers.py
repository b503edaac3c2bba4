"""One writer a run: a second one is refused by name, whatever it is, and a dead one's lock is free at once."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rft_cli.errors import UsageError
from rft_cli.runs import Run
from tests.faults.runs_kit import FILES, SMALL, environment, make_files, rft_here, start, tree


def wait_for(path: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.005)


def test_a_job_is_alone_and_when_it_is_killed_before_its_first_checkpoint_it_starts_over(tmp_path):
    make_files(tmp_path)
    flags = ("create", *FILES, *SMALL, "--n-epochs", "2", "--name", "a")
    job = start(tmp_path, *flags)
    try:
        run = Run(tmp_path / "runs" / "a")
        wait_for(run.path / ".lock-holder")
        for command in (("train", "--resume", "a"), ("create", "--resume", "a", "--force")):
            found = rft_here(tmp_path, *command)
            assert found.code == 2
            assert found.errors == [
                f"error: runs/a is being written by process {job.pid} on {run.info['host']}"
            ]
        again = rft_here(tmp_path, *flags)
        assert again.code == 2
        assert again.errors == ["error: runs/a exists already"]
        wait_for(run.path / "rollouts" / "step-000000.jsonl")
    finally:
        job.send_signal(signal.SIGKILL)
        job.communicate()
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
    """Twelve at once, in real processes, with a name and without."""
    code = (
        "import sys, time\n"
        "from rft_cli.errors import UsageError\n"
        "from rft_cli.runs import Run\n"
        "time.sleep(max(0, float(sys.argv[1]) - time.time()))\n"
        "try:\n"
        "    run = Run.create('runs', sys.argv[2] or None, config_yaml='', info={'model': 'm'})\n"
        "    print('made', run.name, run.info['name'])\n"
        "except UsageError as error:\n"
        "    print(error.message)\n"
    )
    for name in ("a", ""):
        at = str(time.time() + 2)
        makers = [
            subprocess.Popen(
                [sys.executable, "-c", code, at, name],
                cwd=tmp_path,
                env=environment(),
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(6)
        ]
        said = sorted(maker.communicate(timeout=60)[0].strip() for maker in makers)
        if name:
            assert said == ["made a a", *["runs/a exists already"] * 5]
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
