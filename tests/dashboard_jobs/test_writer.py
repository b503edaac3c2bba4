"""Only the process that surely writes a run is asked to stop."""

import contextlib
import json
import socket
import subprocess
import sys

import psutil
import pytest

from rft_cli.dashboard.jobs.actions import Actions
from rft_cli.dashboard.jobs.jobs import Jobs
from rft_cli.dashboard.jobs.record import Record
from rft_cli.dashboard.jobs.writer import ask_to_stop, is_written, writer_of
from rft_cli.errors import UsageError
from rft_cli.runs import Run
from tests.command import environment

HOLDS = """
import signal, sys, time
from pathlib import Path
from rft_cli.runs import Run
run = Run(Path(sys.argv[1]))
if sys.argv[3:]:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: print(signal.Signals(number).name, flush=True))
with run.session() if sys.argv[2] == "trains" else run.lock():
    print("held", flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(1)
"""


@contextlib.contextmanager
def process(*arguments):
    """A process that prints a line, and ends at the latest with the block."""
    started = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, env=environment())
    try:
        started.stdout.readline()
        yield started
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path, "job", config_yaml="", info={"pid": None}).path


def test_the_process_that_holds_the_lock_is_found_and_asked_to_stop(run):
    assert not is_written(run)
    with process("-c", HOLDS, str(run), "trains") as holder:
        assert is_written(run)
        found = writer_of(run)
        assert found.pid == holder.pid
        ask_to_stop(found)
        assert holder.wait(10) == -15
    with pytest.raises(UsageError, match="ended already"):
        ask_to_stop(found)
    # it was killed, and its note is still there
    assert (run / ".lock-holder").exists()
    with pytest.raises(UsageError, match="no process writes this run"):
        writer_of(run)


def test_a_second_wish_counts_only_where_it_says_at_once(run):
    jobs = Jobs(run.parent, run.parent)
    with process("-c", HOLDS, str(run), "trains", "answers") as holder:
        assert jobs.actions(run, Run(run).info) == Actions("running", holder.pid)
        # no first wish, so this is one
        jobs.stop(run, at_once=True)
        assert holder.stdout.readline() == b"SIGTERM\n"
        assert jobs.actions(run, Run(run).info) == Actions("stopping", holder.pid)
        jobs.stop(run)
        jobs.stop(run, at_once=True)
        assert holder.stdout.readline() == b"SIGINT\n"
    assert jobs.actions(run, Run(run).info) == Actions("nothing", can_resume=True)


def test_a_process_that_only_has_the_number_is_left_alone(run):
    with (
        process("-c", HOLDS, str(run), "trains"),
        process("-c", "import time; print(flush=True); time.sleep(60)") as other,
    ):
        note = {"pid": other.pid, "host": socket.gethostname()}
        (run / ".lock-holder").write_text(json.dumps(note))
        with pytest.raises(
            UsageError, match=f"process {other.pid}, named in the run, is not the one that writes it"
        ):
            writer_of(run)
        assert other.poll() is None


def test_a_process_that_writes_the_run_and_does_not_train_it_is_left_alone(run):
    with (
        process("-c", HOLDS, str(run), "exports") as holder,
        pytest.raises(UsageError, match=f"process {holder.pid} writes it, and does not train it"),
    ):
        writer_of(run)


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ('{"pid": 1, "host": "another"}', "process 1 on another writes it, another machine"),
        ("{", "it isn't known which process writes it"),
        (None, "it isn't known which process writes it"),
        (json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()}), "is not the one that writes it"),
    ],
)
def test_a_note_that_names_no_process_here_is_said(run, note, said):
    with process("-c", HOLDS, str(run), "trains"):
        (run / ".lock-holder").unlink()
        if note is not None:
            (run / ".lock-holder").write_text(note)
        with pytest.raises(UsageError, match=said):
            writer_of(run)


def test_a_record_knows_its_process_by_its_time(run):
    with process("-c", "import time; print(flush=True); time.sleep(60)") as other:
        created = psutil.Process(other.pid).create_time()
        assert Record("job", [], other.pid, created).is_alive()
        assert not Record("job", [], other.pid, created - 1).is_alive()
    assert not Record("job", [], other.pid, created).is_alive()
