"""A disk that fills up, can't be written or fails: a clean stop that names the path, and every checkpoint whole.

The real job runs on a small tmpfs in a namespace of its own; where that is not permitted, its test is skipped and says
so, and the others hold each write to a limit on the size of files (`RLIMIT_FSIZE`).
"""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rft_cli.errors import RunFailed
from rft_cli.runs import Run
from tests.command import FULL, RFT, environment
from tests.faults.jobs import in_child, make_files, small_arguments
from tests.faults.outcome import differences, state_of

pytestmark = pytest.mark.fault("full or read-only disk")

# The scorer fills the disk: while it grades, the job is between two writes whose order is known.
FILLING = """
import os


def score(completion, example):
    if example["input"] == "{at}" and not os.path.exists("{folder}/filled"):
        open("{folder}/filled", "w").close()
        disk = os.statvfs("{folder}/runs")
        with open("{folder}/runs/filler", "wb") as file:
            file.write(bytes((disk.f_bavail - {spare}) * disk.f_frsize))
    return min(1.0, len(completion) / 40)
"""
DRIVER = """
set -e
mount -t tmpfs -o size={size} none runs
"$@" {create} > 1.out 2> 1.err || echo $? > 1.code
cp -r runs/a first
rm -f runs/filler
mount -o remount,size=200m runs
"$@" train --resume a --json > 2.out 2> 2.err || echo $? > 2.code
cp -r runs/a second
"""


def in_a_small_disk(folder: Path, size: str) -> None:
    """Run the job on a tmpfs of this size, then make space and resume it; copies of both states are left."""
    create = " ".join(small_arguments("a", epochs=3))
    (folder / "runs").mkdir()
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", DRIVER.format(size=size, create=create), "sh", *RFT],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def namespaces() -> bool:
    """Whether this user may mount a tmpfs in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


EACH_WRITE = pytest.mark.skipif(not FULL, reason="RFT_FAULTS=full: each write alone is tested below")


@pytest.mark.skipif(
    not namespaces(), reason="needs unshare -rm and a tmpfs, which this machine does not permit"
)
@pytest.mark.parametrize(
    ("size", "at", "spare", "said", "steps"),
    [
        # Two checkpoints of 12 MB fit.
        ("32m", "", 0, "checkpoints/step-3", [1, 2]),
        # Full when the first rollout batch is written.
        pytest.param("100m", "3 + 1", 0, "rollouts/step-000000.jsonl", [], marks=EACH_WRITE),
        # One block is left, which that batch takes.
        pytest.param("100m", "3 + 1", 1, "metrics.jsonl", [], marks=EACH_WRITE),
    ],
    ids=["checkpoint", "rollouts", "metrics"],
)
def test_a_job_stops_cleanly_on_a_disk_that_fills_up_and_goes_on_when_there_is_space(
    tmp_path, warm, size, at, spare, said, steps
):
    make_files(tmp_path, rows=4)
    (tmp_path / "scorer.py").write_text(FILLING.format(at=at, folder=tmp_path, spare=spare))
    in_a_small_disk(tmp_path, size)
    first, told = Run(tmp_path / "first"), (tmp_path / "1.err").read_text()
    assert (tmp_path / "1.code").read_text() == "3\n", told
    assert told.endswith(
        f"error: runs/a/{said} can't be written: No space left on device\n"
        "  fix: free space there, then: rft train --resume runs/a\n"
    )
    assert "Traceback" not in told
    assert first.checkpoints() == steps
    assert [path.name for path in (first.path / "checkpoints").iterdir()] == [
        f"step-{step}" for step in steps
    ]
    assert [first.verify_checkpoint(step) for step in steps] == [None] * len(steps)
    assert [path.name for path in first.path.rglob(".*.jsonl.*")] == []
    if steps:  # what was half-written is gone, so that there is room to say so
        assert first.info["status"] == "failed"
        assert "can't be written: No space left on device" in first.info["error"]
    second = Run(tmp_path / "second")
    assert not (tmp_path / "2.code").exists(), (tmp_path / "2.err").read_text()
    assert [row["step"] for row in second.metrics()] == [1, 2, 3]
    assert second.info["status"] == "finished"
    assert json.loads((tmp_path / "2.out").read_text()) == second.info["result"]
    assert [second.verify_checkpoint(step) for step in second.checkpoints()] == [None] * 3
    assert len(list(second.rollouts())) == 24
    undisturbed = tmp_path / "undisturbed"
    make_files(undisturbed, rows=4)
    shutil.copy(tmp_path / "scorer.py", undisturbed)  # the disk was filled once, and is not again
    assert warm.start(undisturbed, small_arguments("a", epochs=3)).wait().code == 0
    assert not differences(state_of(Run(undisturbed / "runs" / "a")), state_of(second))


# Each write of a run, on a disk that takes no more.


def limited(work: Callable[[], None], size: int) -> str:
    """Do `work` in a child whose files can't grow over `size` bytes; its RunFailed, as people see it."""

    def failing() -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            work()
        except RunFailed as error:
            return f"{error.message} | {error.fix}"
        return "nothing failed"

    return in_child(failing)()[1]


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run.create(tmp_path, "a", config_yaml="seed: 0\n", info={"model": "m"})
    for step in (1, 2):
        run.append_metrics({"step": step, "text": "x" * 900})
    return run


FIX = "raise the limit on the size of files (ulimit -f), or store the run elsewhere, then: rft train --resume {}"


def test_each_write_that_fails_names_its_path_and_spoils_nothing(run):
    rows = [{"step": 3, "text": "x" * 3000}]

    def checkpoint() -> None:
        partial = run.begin_checkpoint(3)
        for name in range(40):
            (partial / f"file-with-a-long-name-{name}").write_bytes(b"x")
        run.commit_checkpoint(3, partial)

    metrics = run.metrics_path.read_bytes()
    info = (run.path / "run.json").read_bytes()
    for work, name in (
        (lambda: run.append_metrics(rows[0]), "metrics.jsonl"),
        (lambda: run.write_rollouts(0, rows), "rollouts/step-000000.jsonl"),
        (lambda: run.update(result=rows[0]), "run.json"),
        (lambda: run.write_config("x" * 5000), "config.yaml"),
        (checkpoint, "checkpoints/step-3"),
    ):
        said = limited(work, 2000)
        assert said == f"{run.path}/{name} can't be written: File too large | {FIX.format(run.path)}"
    assert run.metrics_path.read_bytes() == metrics
    assert (run.path / "run.json").read_bytes() == info
    assert (run.path / "config.yaml").read_text() == "seed: 0\n"
    assert list((run.path / "rollouts").iterdir()) == []
    assert run.checkpoints() == []


def test_the_first_error_is_told_when_the_status_can_not_be_written(run):
    def work() -> None:
        with run.session():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            run.write_rollouts(0, [{"text": "x" * 3000}])

    assert limited(work, 10**6).startswith(f"{run.path}/rollouts/step-000000.jsonl can't be written: ")
    assert run.info["status"] == "running"
    with run.lock():
        pass


def test_what_torch_and_safetensors_say_of_a_full_disk_is_understood(run, tmp_path):
    weights = {"w": torch.zeros(200_000)}
    for save in (
        lambda: torch.save(weights, tmp_path / "x.pt"),
        lambda: save_file(weights, tmp_path / "x.safetensors"),
    ):

        def work(save=save) -> None:
            with run.writing(run.checkpoint_path(1)):
                save()

        said = limited(work, 100_000)
        assert said.startswith(f"{run.path}/checkpoints/step-1 can't be written: "), said
        assert said.endswith(f"then: rft train --resume {run.path}")


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free space there"),
        (errno.EDQUOT, "free space there, or have the quota raised"),
        (errno.EROFS, "make it writable"),
        (errno.EIO, "check the disk"),
    ],
)
def test_what_a_disk_says_gets_a_fix_and_what_others_say_stays(run, number, fix):
    with pytest.raises(RunFailed) as caught, run.writing(run.path / "x"):
        raise OSError(number, os.strerror(number))
    assert caught.value.message == f"{run.path}/x can't be written: {os.strerror(number)}"
    assert caught.value.fix == f"{fix}, then: rft train --resume {run.path}"
    for other in (
        ConnectionResetError(errno.ECONNRESET, "reset"),
        RuntimeError("shape mismatch"),
        KeyError("x"),
    ):
        with pytest.raises(type(other)), run.writing(run.path / "x"):
            raise other


@pytest.mark.skipif(
    not namespaces(), reason="needs unshare -rm and a tmpfs, which this machine does not permit"
)
def test_a_run_on_a_read_only_disk_is_told(run, tmp_path):
    code = (
        "import sys; from rft_cli.runs import Run; from rft_cli.errors import RunFailed\n"
        "try:\n    with Run.open(sys.argv[1]).session(): pass\n"
        "except RunFailed as error: print(error.message, '|', error.fix)\n"
    )
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$1" -c "$2" "$0/a"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, str(tmp_path), sys.executable, code],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "can't be written: Read-only file system | make it writable, then: rft train" in done.stdout, (
        done.stderr
    )
