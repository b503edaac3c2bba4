"""Folders of graders whose program was killed go when the next grader opens; those in use stay."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rft_cli.grading.pool import scratch
from rft_cli.grading.pool.scratch import Scratch

HOLDS = (
    "import sys, time\nfrom rft_cli.grading.pool.scratch import Scratch\n"
    "it = Scratch()\nprint(it.path, flush=True)\ntime.sleep(60)\n"
)


def owner(folder: Path) -> tuple["subprocess.Popen[str]", Path]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    return child, Path(child.stdout.readline().strip())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_owner_left_goes_and_what_is_owned_stays(folder: Path) -> None:
    killed, left = owner(folder)
    alive, kept = owner(folder)
    (left / "1234").mkdir()
    (folder / "rft-grader-other").mkdir()  # no note of an owner: being made, or another program's
    (folder / "rft-grader-link").symlink_to(left)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        own = Scratch()
        assert not left.exists()
        assert {path.name for path in folder.iterdir()} == {
            kept.name, own.path.name, "rft-grader-other", "rft-grader-link",
        }  # fmt: skip
        own.remove()
        assert not own.path.exists()
    finally:
        alive.kill()
        alive.wait()


def test_what_its_workers_started_ends_with_it(folder: Path) -> None:
    killed, left = owner(folder)
    killed.kill()
    killed.wait()
    (left / "1").mkdir()
    leftover = subprocess.Popen(["sleep", "60"], cwd=left / "1", start_new_session=True)
    Scratch().remove()
    assert leftover.wait(5) == -signal.SIGKILL
