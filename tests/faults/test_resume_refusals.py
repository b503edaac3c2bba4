"""`--resume` that can't be: one message, exit code 2, and not one byte or time changed on disk. And what is allowed.

Every refusal goes through the command line; the run is a real one of builtin/tiny.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rft_cli.runs import Run
from rft_cli.runs.model_hash import base_identity
from tests.command import Ended, environment
from tests.faults.jobs import FILES, SMALL, rft_here, tree

BUILTIN = Path(__file__).parents[2] / "rft_cli" / "builtin" / "tiny"
pytestmark = pytest.mark.fault("resume: bad input and changed jobs")


@pytest.fixture
def run(tmp_path, finished) -> Run:
    return finished(tmp_path)


def refused(folder: Path, *args: str) -> Ended:
    """`rft train --resume ARGS`, which must end with one message and change nothing."""
    before = tree(folder)
    done = rft_here(folder, "train", "--resume", *args)
    assert done.code == 2, done.err
    assert len(done.errors) == 1, done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert tree(folder) == before
    return done


def accepted(done: Ended) -> bool:
    """Whether nothing was refused but that the run, the same job still, is finished."""
    return done.code == 2 and len(done.errors) == 1 and "is finished: mean reward" in done.errors[0]


def edit(run: Run, **changes: object) -> None:
    """Edit config.yaml as a person does: `section__key=value`."""
    file = run.path / "config.yaml"
    tree = yaml.safe_load(file.read_text())
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (tree[section] if section else tree)[name] = value
    file.write_text(yaml.safe_dump(tree))


def test_a_directory_that_is_no_run(run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert (
        "empty is a directory, but not a run (no run.json and no config.yaml)"
        in refused(tmp_path, "empty").err
    )
    (run.path / "config.yaml").unlink()
    assert "a is a directory, but not a run (no config.yaml)" in refused(tmp_path, "a").err
    shutil.copy(BUILTIN / "config.json", run.path / "config.yaml")
    (run.path / "run.json").unlink()
    assert "runs/a is a directory, but not a run (no run.json)" in refused(tmp_path, "runs/a").err
    assert "b is not a run" in refused(tmp_path, "b").err


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"schema_version": 1}', '{"schema_version": "1", "status": "x"}', "[" * 100_000],
)
def test_a_damaged_run_json(run, tmp_path, content):
    (run.path / "run.json").write_text(content)
    assert "run.json can't be read" in refused(tmp_path, "a", "--n-epochs", "3").err


def test_an_unreadable_config(run, tmp_path):
    (run.path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    assert "runs/a/config.yaml" in refused(tmp_path, "a", "--n-epochs", "3").errors[0]
    (run.path / "config.yaml").write_text("optim: {n_epochs: many}\n")
    assert "runs/a/config.yaml:1:19: optim.n_epochs" in refused(tmp_path, "a").errors[0]


def test_a_run_of_a_later_version_names_both(run, tmp_path):
    run.update(schema_version=2, versions={"rft": "9.1.0"})
    done = refused(tmp_path, "a", "--n-epochs", "3")
    assert done.errors == [
        "error: runs/a/run.json has schema version 2, written by rft 9.1.0; rft 0.1.0 reads up to version 1"
    ]
    run.update(versions=None)
    assert "has schema version 2; rft 0.1.0 reads" in refused(tmp_path, "a").err


def test_a_finished_run_is_told_and_left_alone(run, tmp_path):
    before = tree(tmp_path)
    for more in ((), ("--n-epochs", "2"), ("--force",)):
        done = rft_here(tmp_path, "train", "--resume", "a", "--quiet", "--json", *more)
        assert (done.code, list(json.loads(done.out))) == (2, ["error"]), done.err
    assert (
        "fix: train it longer: rft train --resume runs/a --n-epochs 4"
        in rft_here(tmp_path, "create", "--resume", "a").err
    )
    assert tree(tmp_path) == before


def test_a_run_is_not_made_shorter(run, tmp_path):
    done = refused(tmp_path, "a", "--n-epochs", "1")
    assert done.errors == ["error: runs/a trains for 2 epochs: it can't be made shorter (optim.n_epochs 1)"]
    refused(tmp_path, "a", "--n-epochs", "1", "--force")
    run.update(status="interrupted", result=None)
    refused(tmp_path, "a", "--n-epochs", "1")
    refused(tmp_path, "a", "--n-epochs", "0")


def test_an_edited_config_is_refused_with_every_key(run, tmp_path):
    edit(run, seed=4, optim__learning_rate=0.5, rollout__group_size=4, checkpoint__keep_last=9)
    done = refused(tmp_path, "a", "--n-epochs", "3")
    assert done.err.splitlines()[:5] == [
        "error: runs/a can't resume: changed since the run started:",
        "  rollout.group_size: 2 -> 4",
        "  optim.learning_rate: 0.001 -> 0.5",
        "  checkpoint.keep_last: 3 -> 9",
        "  seed: 0 -> 4",
    ]
    assert "--force" in done.err


def test_an_edit_that_means_the_same_is_no_change(run, tmp_path):
    file = run.path / "config.yaml"
    file.write_text("# a comment\n" + yaml.safe_dump(yaml.safe_load(file.read_text())))
    assert accepted(rft_here(tmp_path, "train", "--resume", "a"))


def test_a_run_of_an_earlier_version_has_settings_that_are_gone(run, tmp_path):
    edit(run, distributed__hang_timeout_s=30.0)
    run.update(settings={**run.info["settings"], "distributed.hang_timeout_s": 30.0})
    given = ("--set", "distributed.hang_timeout_s=30")
    same = rft_here(
        tmp_path, "create", *FILES, *SMALL, *given, "--n-epochs", "2", "--name", "a", "--resume", "a"
    )
    assert accepted(same), same.err


def test_flags_repeat_the_run_or_are_refused(run, tmp_path):
    same = rft_here(tmp_path, "create", *FILES, *SMALL, "--n-epochs", "2", "--name", "a", "--resume", "a")
    assert accepted(same), same.err
    done = refused(tmp_path, "a", "--set", "ppo.kl_coef=0.5", "--algorithm", "grpo", "--num-processes", "2")
    for line in ("algorithm: ppo -> grpo", "ppo.kl_coef: 0.005 -> 0.5", "num_processes: 1 -> 2"):
        assert f"\n  {line}\n" in done.err


def test_changed_files_are_refused_all_at_once(run, tmp_path):
    for name in ("train.jsonl", "val.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"task": "Add.", "input": "9 + 9", "output": "18"}\n')
    (tmp_path / "helper.py").write_text("def reward(completion):\n    return 1.0\n")
    done = refused(tmp_path, "a", "--n-epochs", "3")
    assert f"  data.train: {tmp_path}/train.jsonl has changed\n" in done.err
    assert f"  data.validation: {tmp_path}/val.jsonl has changed\n" in done.err
    assert "  grader.path/helper.py: the scorer imports it, and it has changed\n" in done.err
    (tmp_path / "scorer.py").write_text("def score(completion):\n    return 0.5\n")
    done = refused(tmp_path, "a", "--n-epochs", "3")
    assert f"  grader.path: {tmp_path}/scorer.py has changed\n" in done.err


def test_files_that_are_gone_are_named_all_at_once(run, tmp_path):
    for name in ("train.jsonl", "val.jsonl"):
        (tmp_path / name).unlink()
    before = tree(tmp_path)
    done = rft_here(tmp_path, "train", "--resume", "a", "--n-epochs", "3")
    assert done.code == 2
    assert done.errors == [
        f"error: data.train: {tmp_path}/train.jsonl can't be read: No such file or directory",
        f"error: data.validation: {tmp_path}/val.jsonl can't be read: No such file or directory",
    ]
    assert "say where it is now: -t FILE (known by its SHA-256)" in done.err
    assert tree(tmp_path) == before


def test_another_base_model_is_refused(run, tmp_path):
    """The same directory, other weights; and a copy of the very same model elsewhere is the same."""
    model = shutil.copytree(BUILTIN, tmp_path / "model")
    run.update(
        base=base_identity(str(model), None), settings={**run.info["settings"], "model.path": str(model)}
    )
    edit(run, model__path=str(model))
    assert accepted(rft_here(tmp_path, "train", "--resume", "a", "--quiet"))
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    done = refused(tmp_path, "a", "--n-epochs", "3")
    assert "  model.path: sha256 " in done.err
    other = shutil.copytree(BUILTIN, tmp_path / "other")
    assert base_identity(str(other), None) == run.info["base"]
    assert accepted(rft_here(tmp_path, "train", "--resume", "a", "--model", str(other)))


def test_a_model_of_the_hub_is_its_commit(tmp_path):
    """Asked in processes of their own: huggingface_hub reads where its cache is once."""
    for commit in ("a" * 40, "b" * 40):
        folder = tmp_path / "hub" / "models--org--name"
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "snapshots" / commit / "config.json").write_text("{}")
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(commit)
        code = "from rft_cli.runs.model_hash import base_identity as b; print(b('org/name', None), b('org/no', None))"
        found = subprocess.run(
            [sys.executable, "-c", code],
            env=environment(HF_HUB_CACHE=str(tmp_path / "hub")),
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout == f"commit {commit} None\n"


def test_large_files_of_a_model_are_told_apart_by_samples(tmp_path):
    size = 40 * 2**20
    for name, at in (("one", None), ("same", None), ("end", size - 1), ("start", 0), ("middle", size // 2)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "model.safetensors").open("wb") as file:
            file.truncate(size)
            if at is not None:
                file.seek(at - at % (64 * 2**10))
                file.write(b"x" * min(600_000, size - file.tell()))
    found = {
        name: base_identity(str(tmp_path / name), None) for name in ("one", "same", "end", "start", "middle")
    }
    assert found["one"] == found["same"]
    assert len(set(found.values())) == 4


def test_an_adapter_is_itself_and_its_base(tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "builtin/tiny"}')
    alone = base_identity("builtin/tiny", None)
    found = base_identity(str(adapter), None)
    assert found is not None
    assert found.endswith(f" on {alone}")
    (adapter / "adapter_config.json").write_text("{")
    assert base_identity(str(adapter), None) is None  # which weights these are nobody can say
    assert base_identity(str(tmp_path / "none"), None) is None


def test_a_run_as_a_model_is_its_best_checkpoint(run):
    run.set_best(1)
    first = base_identity(str(run.path), None)
    run.set_best(2)
    assert first != base_identity(str(run.path), None)
    run.set_best(None)
    assert base_identity(str(run.path), None) == base_identity("builtin/tiny", None)


def test_all_weights_of_a_run_are_the_same_whatever_became_of_its_base(run, tmp_path):
    run.set_best(1)
    assert not (run.checkpoint_path(1) / "adapter_config.json").exists()
    before = base_identity(str(run.path), None)
    run.update(model=str(tmp_path / "gone"))
    assert base_identity(str(run.path), None) == before


def test_force_goes_on_and_says_so_in_run_json(run, tmp_path):
    """The real job: a changed setting and a changed scorer, forced once; after that the run is what it has become."""
    scorer = tmp_path / "scorer.py"
    scorer.write_text(scorer.read_text() + "\n# changed\n")
    old = run.info["hashes"]["grader"]
    args = ("train", "--resume", "a", "--n-epochs", "3", "--set", "ppo.kl_coef=0.5")
    assert rft_here(tmp_path, *args).code == 2
    done = rft_here(tmp_path, *args, "--force")
    assert done.code == 0, done.err
    info = run.info
    [entry] = info["forced"]
    assert entry["step"] == 2
    assert entry["changed"] == {"ppo.kl_coef": [0.005, 0.5], "grader.path": [old, info["hashes"]["grader"]]}
    assert old != info["hashes"]["grader"]
    assert entry["when"].startswith("20")
    assert info["settings"]["ppo.kl_coef"] == 0.5
    assert "kl_coef: 0.5" in (run.path / "config.yaml").read_text()
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    assert accepted(rft_here(tmp_path, "train", "--resume", "a"))


@pytest.mark.parametrize("links", [True, False], ids=["as it is", "links followed"])
def test_a_copy_of_the_project_elsewhere_goes_on(run, tmp_path, links):
    """Data, scorer and run copied together: each file is found beside the run again, known by its hash."""
    run.set_best(2)
    there = tmp_path.with_name(f"{tmp_path.name}-there")
    shutil.copytree(tmp_path, there, symlinks=links)
    shutil.rmtree(tmp_path)
    (there / "elsewhere").mkdir()
    done = rft_here(there / "elsewhere", "train", "--resume", "../runs/a", "--n-epochs", "3", "--json")
    assert done.code == 0, done.err
    for key, name in (("data.train", "train.jsonl"), ("grader.path", "scorer.py")):
        assert f"{key}: {tmp_path}/{name} is missing, the same file is at {there}/{name}" in done.err
    moved = Run(there / "runs" / "a")
    assert moved.info["settings"]["data.train"] == f"{there}/train.jsonl"
    assert f"train: {there}/train.jsonl" in (moved.path / "config.yaml").read_text()
    assert "forced" not in moved.info
    assert (moved.path / "best").is_symlink() == (moved.info["best_step"] > 0)
    assert [row["step"] for row in moved.metrics()] == [1, 2, 3]
    os.rename(there, tmp_path)


def test_a_run_alone_elsewhere_takes_the_same_files_from_flags(run, tmp_path):
    """Only the run was copied: the files may lie anywhere, under any name, as long as they are the same."""
    there = tmp_path.with_name(f"{tmp_path.name}-alone")
    shutil.copytree(run.path, there / "a", symlinks=True)
    shutil.move(tmp_path / "train.jsonl", there / "rows.jsonl")
    shutil.move(tmp_path / "val.jsonl", there / "val.jsonl")
    shutil.move(tmp_path / "scorer.py", there / "scorer.py")
    shutil.move(tmp_path / "helper.py", there / "helper.py")
    done = rft_here(there, "train", "--resume", "a", "--n-epochs", "3")
    assert done.code == 2
    assert [line.split(": ")[1] for line in done.errors] == ["data.train"]
    other = rft_here(there, "train", "--resume", "a", "--n-epochs", "3", "-t", "val.jsonl")
    assert "data.train: train.jsonl -> val.jsonl\n" in other.err
    (there / "helper.py").unlink()
    gone = rft_here(there, "train", "--resume", "a", "--n-epochs", "3", "-t", "rows.jsonl")
    assert "grader.path/helper.py: the scorer imports it, and it is gone" in gone.err
    same = rft_here(there, "train", "--resume", "a", "--set", "data.train=rows.jsonl", "--json")
    assert accepted(same), same.err
    assert "error: a is finished" in same.err
