"""A run keeps the commit of its hub model, though the branch moves on: when it is resumed, and in what it is made into.

The hub is a server here. Its model has the same files at every commit: which commit is loaded says what is asked of it.
"""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from rft_cli.runs import Run
from tests.command import Ended
from tests.faults.jobs import FILES, SMALL, make_files, run_outside
from tests.hub import MODEL, Hub

A, B = "a" * 40, "b" * 40
MAIN = ("--set", "model.revision=main")
pytestmark = pytest.mark.fault("resume: the hub model moved on")


@pytest.fixture
def hub():
    server = Hub(A)
    yield server
    server.close()


def rft(folder: Path, hub: Hub, *args: str) -> Ended:
    return run_outside(folder, args, **hub.environment(folder / "hf")).wait()


def began(folder: Path, hub: Hub, *args: str) -> tuple[str, ...]:
    """Train one epoch of the run `a`, then `main` moves on and the cache is lost; the arguments to resume it with."""
    make_files(folder, rows=4)
    job = (*FILES, "--model", MODEL, "--set", "lora.enabled=true", *SMALL, *args)
    done = rft(folder, hub, "create", *job, "--name", "a", "--n-epochs", "1")
    assert done.code == 0, done.err
    assert "config.json" not in done.err  # no progress bars of downloads
    hub.main = B
    hub.asked.clear()
    shutil.rmtree(folder / "hf")
    return ("train", "--resume", "a", *job)


@pytest.mark.parametrize(
    ("args", "asked"),
    [((), None), (MAIN, "main"), (("--num-processes", "2"), None)],
    ids=["alone", "a branch", "two processes"],
)
def test_a_resumed_run_loads_the_commit_that_it_began_with(tmp_path, hub, args, asked):
    """Its first command is given again, with the branch that it named: that is no change."""
    again = began(tmp_path, hub, *args)
    run = Run(tmp_path / "runs" / "a")
    info = run.info
    assert (info["base"], info["asked_revision"]) == (f"commit {A}", asked)
    assert info["settings"]["model.revision"] == A
    assert yaml.safe_load((run.path / "config.yaml").read_text())["model"]["revision"] == A
    done = rft(tmp_path, hub, *again, "--n-epochs", "2")
    assert done.code == 0, done.err
    assert hub.loaded() == {A}
    assert run.info["base"] == f"commit {A}"
    assert "forced" not in run.info


def test_another_revision_is_refused_and_forced(tmp_path, hub):
    """And what is made from a run is made from its commit."""
    again = began(tmp_path, hub)
    run = Run(tmp_path / "runs" / "a")
    refused = rft(tmp_path, hub, *again, *MAIN)
    assert refused.code == 2
    assert f"  model.revision: {A} -> main\n" in refused.err
    assert f"  model.path: commit {A} -> commit {B}\n" in refused.err
    assert hub.loaded() == set()

    done = rft(tmp_path, hub, "validate", "--run", "a", "--config", str(other_config(tmp_path)), "--quiet")
    assert done.code == 0, done.err
    exported = rft(tmp_path, hub, "export", "a", "--checkpoint", "1", "--format", "adapter", "--quiet")
    assert exported.code == 0, exported.err
    assert json.loads((run.path / "export/adapter/adapter_config.json").read_text())["revision"] == A
    assert hub.loaded() == {A}

    done = rft(tmp_path, hub, *again, *MAIN, "--n-epochs", "2", "--force")
    assert done.code == 0, done.err
    [entry] = run.info["forced"]
    assert entry["changed"]["model.revision"] == [A, "main"]
    assert (run.info["base"], run.info["settings"]["model.revision"]) == (f"commit {B}", B)
    assert hub.loaded() == {A, B}


def other_config(folder: Path) -> Path:
    """A configuration that names a grader, and no revision."""
    file = folder / "other.yaml"
    file.write_text("data: {validation: val.jsonl}\ngrader: {path: ./scorer.py, workers: 1, audit: none}\n")
    return file


def test_another_model_does_not_begin_at_the_old_ones_commit(tmp_path, hub):
    again = began(tmp_path, hub)
    done = rft(tmp_path, hub, *again, "--model", "builtin/tiny")
    assert done.code == 2
    assert f"  model.revision: {A} -> None\n" in done.err
    assert f"  model.path: commit {A} -> sha256 " in done.err
