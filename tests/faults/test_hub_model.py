"""A run keeps the commit of its hub model, though the branch moves on: when it is resumed, and in what it is made into.

The hub is a server here. Its model has the same files at every commit: which commit is loaded says what is asked of it.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rft_cli.commands.resume.plan import plan_resume
from rft_cli.commands.settings import Settings
from rft_cli.runs import Run
from tests.command import FULL, Ended, environment
from tests.faults.jobs import FILES, SMALL, WarmJobs, make_files, run_outside
from tests.hub import MODEL, Hub
from tests.warm import WarmServer

Rft = Callable[..., Ended]

A, B = "a" * 40, "b" * 40
MAIN = ("--set", "model.revision=main")
OTHER = "data: {validation: val.jsonl}\ngrader: {path: ./scorer.py, workers: 1, audit: none}\n"
"""A configuration that names a grader, and no revision."""
pytestmark = pytest.mark.fault("resume: the hub model moved on")


@pytest.fixture
def hub():
    server = Hub(A)
    yield server
    server.close()


@pytest.fixture
def rft(hub, tmp_path):
    """`rft ARGS` with this hub, in a warm child where no variable differs that libraries read at their import."""
    variables = hub.environment(tmp_path / "hf")
    server = WarmServer(environment(**variables))
    jobs = WarmJobs(server)

    def run(*args: str, **env: str) -> Ended:
        if env:
            return run_outside(tmp_path, args, **{**variables, **env}).wait()
        return jobs.start(tmp_path, args, **variables).wait()

    yield run
    server.close()


def began(folder: Path, hub: Hub, rft: Rft, *args: str) -> tuple[str, ...]:
    """Train one epoch of the run `a`, then `main` moves on and the cache is lost; the arguments to resume it with."""
    make_files(folder, rows=4)
    job = (*FILES, "--model", MODEL, "--set", "lora.enabled=true", *SMALL, *args)
    done = rft("create", *job, "--name", "a", "--n-epochs", "1")
    assert done.code == 0, done.err
    assert "config.json" not in done.err  # no progress bars of downloads
    hub.main = B
    hub.asked.clear()
    shutil.rmtree(folder / "hf")
    return ("train", "--resume", "a", *job)


@pytest.mark.skipif(not FULL, reason="RFT_FAULTS=full: the test below resumes one with its revision given")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_run_loads_the_commit_that_it_began_with(tmp_path, hub, rft, processes):
    """Its first command is given again: that is no change."""
    again = began(tmp_path, hub, rft, "--num-processes", str(processes))
    run = Run(tmp_path / "runs" / "a")
    assert run.info["base"] == f"commit {A}"
    assert run.info["settings"]["model.revision"] == A
    assert yaml.safe_load((run.path / "config.yaml").read_text())["model"]["revision"] == A
    done = rft(*again, "--n-epochs", "2")
    assert done.code == 0, done.err
    assert hub.loaded() == {A}
    assert run.info["base"] == f"commit {A}"
    assert "forced" not in run.info


def test_another_revision_is_refused_and_forced(tmp_path, hub, rft):
    """The branch that it began with is none. And what is made from a run is made from its commit."""
    again = began(tmp_path, hub, rft, *MAIN)
    run = Run(tmp_path / "runs" / "a")
    assert "is finished: mean reward" in rft(*again).err
    other = ("--set", f"model.revision={B}")
    refused = rft(*again, *other)
    assert refused.code == 2
    assert f"  model.revision: {A} -> {B}\n" in refused.err
    tiny = ["builtin/tiny" if word == MODEL else word for word in again]
    refused = rft(*tiny, "--set", "model.revision=null")
    assert refused.code == 2
    assert f"  model.path: commit {A} -> sha256 " in refused.err
    offline = rft(*again, "--n-epochs", "2", HF_HUB_OFFLINE="1")
    assert offline.code == 2
    assert f"hf download {MODEL} --revision {A}" in offline.err
    assert hub.loaded() == set()

    (tmp_path / "other.yaml").write_text(OTHER)
    measured = rft("validate", "--run", "a", "--config", "other.yaml", "--quiet")
    assert measured.code == 0, measured.err
    exported = rft("export", "a", "--checkpoint", "1", "--format", "adapter", "--quiet")
    assert exported.code == 0, exported.err
    assert json.loads((run.path / "export/adapter/adapter_config.json").read_text())["revision"] == A
    assert hub.loaded() == {A}

    hub.asked.clear()
    shutil.rmtree(tmp_path / "hf")
    done = rft(*again, "--n-epochs", "2")
    assert done.code == 0, done.err
    assert hub.loaded() == {A}
    assert (run.info["base"], "forced" in run.info) == (f"commit {A}", False)

    done = rft(*again, *other, "--n-epochs", "3", "--force")
    assert done.code == 0, done.err
    [entry] = run.info["forced"]
    assert entry["changed"]["model.revision"] == [A, B]
    assert (run.info["base"], run.info["settings"]["model.revision"]) == (f"commit {B}", B)
    assert hub.loaded() == {A, B}


def test_another_model_does_not_begin_at_the_commit_of_the_first(tmp_path):
    """Its branch is looked up; a revision that is given with it counts."""
    run = Run.create(
        tmp_path,
        "a",
        config_yaml=f"model: {{path: {MODEL}, revision: {A}}}\n",
        info={
            "model": MODEL,
            "settings": {"model.path": MODEL, "model.revision": A},
            "asked_revision": "main",
        },
    )
    for given, revision in (
        ({}, A),
        ({"model.revision": "main"}, A),
        ({"model.revision": "v2"}, "v2"),
        ({"model.path": "org/other"}, None),
        ({"model.path": "org/other", "model.revision": "main"}, "main"),
        ({"model.path": "org/other", "model.revision": A}, A),
    ):
        assert plan_resume(str(run.path), Settings(None, given, [])).loaded.config.model.revision == revision
