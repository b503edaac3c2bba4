"""A job from the page: it starts, trains, is stopped with a checkpoint, resumed, and outlives the dashboard."""

import os
import signal
import time

import psutil
import pytest

from rft_cli.dashboard.jobs.jobs import Jobs
from rft_cli.dashboard.jobs.record import folder_of, read_record
from rft_cli.runs import Run
from tests.dashboard_jobs.conftest import SHORT, Dashboard, fill


def until(found, seconds=120):
    """Wait for a true value of `found()`, and give it."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return value


def status(folder, name="one"):
    try:
        return Run(folder / "runs" / name).info["status"]
    except Exception:
        return None


def test_a_start_that_fails_shows_its_message(tmp_path):
    dashboard = Dashboard(fill(tmp_path / "work"))
    try:
        # between the check and the start, a file goes
        jobs = Jobs(dashboard.folder, dashboard.folder / "runs")
        name = jobs.start(SHORT | {"data.train": "gone.jsonl", "name": "one"})
        until(lambda: not jobs.find(name).alive)
        assert jobs.find(name).code == 2
        page = dashboard.get("/jobs/one").text
        assert "error: gone.jsonl: no such file" in page
        assert "-t gone.jsonl" in page
        assert "ended without a run" in page
        assert 'value="gone.jsonl"' in dashboard.get("/start", job="one").text
        assert '/jobs/one"' in dashboard.get("/start").text
        assert dashboard.get("/jobs/two").status_code == 404
        assert dashboard.get("/jobs/%2e%2e").status_code == 404
    finally:
        dashboard.end()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_outlives_the_dashboard_and_another_one_stops_it(tmp_path):
    folder = fill(tmp_path / "work")
    first, second = Dashboard(folder), Dashboard(folder)
    answer = first.post("/start", do="start", name="one", **SHORT | {"optim.n_epochs": "200"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/one")
    run = Run(folder / "runs" / "one")
    try:
        assert "The job starts" in first.get("/jobs/one").text
        until(lambda: status(folder) == "running")
        first._process.send_signal(signal.SIGINT)
        first._process.wait(20)
        until(lambda: run.metrics_path.exists() and len(run.metrics()) >= 2)
        pid = run.info["pid"]
        assert os.getsid(pid) == pid

        assert second.post("/runs/one/resume").status_code == 400
        assert "is being written by process" in second.post("/runs/one/resume").text
        again = second.post("/start", do="start", name="one", **SHORT)
        assert "exists already" in again.text
        assert second.post("/runs/one/stop").headers["location"] == "/runs/one"
        assert "was asked to end" in second.get("/runs/one").text
        until(lambda: status(folder) == "interrupted")
        until(lambda: not psutil.pid_exists(pid))
        assert run.checkpoints()
        assert "no process writes this run" in second.post("/runs/one/stop").text
        assert "interrupted by SIGTERM" in second.get("/jobs/one").text
        like = second.get("/start", like="one").text
        assert 'value="train.jsonl"' in like
        assert "pilot.prompts=0" in like

        # a start that fails says so on the run's page
        (folder / "train.jsonl").write_text((folder / "val.jsonl").read_text())
        assert second.post("/runs/one/resume").status_code == 303
        until(lambda: "The last start failed" in second.get("/runs/one").text)
        page = second.get("/runs/one").text
        assert "changed since the run started" in page
        assert "train.jsonl has changed" in page
        assert ">Resume</button>" in page
    finally:
        end_job(folder)
        first.end()
        second.end()


def end_job(folder, name="one"):
    """Kill the job's process, should a test have failed before it ended."""
    record = read_record(folder_of(folder / "runs", name))
    process = None if record is None else record.process()
    if process is not None:
        process.kill()
