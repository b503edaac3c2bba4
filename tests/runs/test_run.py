"""The run directory: made whole or not at all, found by name, locked, and its checkpoints committed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rft_cli.errors import UsageError
from rft_cli.runs import Run, is_run
from rft_cli.types import Grade, GradeError, Sample


def make(parent: Path, name: str | None = "first", **info: object) -> Run:
    return Run.create(parent, name, config_yaml="seed: 0\n", info={"model": "Qwen/Qwen3-0.6B", **info})


def save(run: Run, step: int, content: bytes = b"weights") -> Path:
    partial = run.begin_checkpoint(step)
    (partial / "model.safetensors").write_bytes(content)
    (partial / "optim").mkdir()
    (partial / "optim" / "rank0.pt").write_bytes(b"state")
    return run.commit_checkpoint(step, partial)


def test_create_writes_config_info_and_files(tmp_path):
    run = Run.create(
        tmp_path / "runs",
        "a",
        config_yaml="seed: 3\n",
        info={"model": "m", "seed": 3},
        files={"scorer/s.py": b"x = 1"},
    )
    assert (run.path / "config.yaml").read_text() == "seed: 3\n"
    assert (run.path / "scorer" / "s.py").read_bytes() == b"x = 1"
    info = run.info
    assert (info["schema_version"], info["status"], info["seed"], info["name"]) == (1, "created", 3, "a")
    assert info["pid"] == os.getpid()
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]
    assert is_run(run.path)
    assert not is_run(tmp_path)


def test_default_name_is_time_and_model_and_never_collides(tmp_path):
    names = [make(tmp_path, None).name for _ in range(3)]
    assert len(set(names)) == 3
    assert all(name[8] == "-" and "-qwen3-0.6b" in name for name in names)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = make(Path("~/kept"))
    assert run.path == tmp_path / "kept" / "first"
    assert Run.open("first", "~/kept").path == Run.open("~/kept/first").path == run.path


def test_existing_name_is_refused_and_left_alone(tmp_path):
    make(tmp_path)
    with pytest.raises(UsageError, match=r"first exists already") as caught:
        make(tmp_path, seed=9)
    assert "--resume" in (caught.value.fix or "")
    assert "seed" not in Run.open("first", tmp_path).info


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "latest", "a b", "-x", "ü"])
def test_names_that_would_not_work_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="can't be a run's name"):
        make(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_creating_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        make(tmp_path, bad=object())
    assert list(tmp_path.iterdir()) == []


def test_output_dir_that_is_a_file_is_a_usage_error(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UsageError, match="cannot make a run in") as caught:
        make(tmp_path / "runs")
    assert "--output-dir" in (caught.value.fix or "")


def test_directories_have_the_mode_of_any_new_directory(tmp_path):
    (tmp_path / "plain").mkdir()
    run = make(tmp_path)
    assert run.path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    plain = tmp_path / "file"
    plain.write_text("")
    assert (run.path / "run.json").stat().st_mode == plain.stat().st_mode


def test_open_by_name_path_and_latest(tmp_path):
    make(tmp_path, "older", created="2026-01-01T00:00:00+00:00")
    make(tmp_path, "newer", created="2026-01-02T00:00:00+00:00")
    make(tmp_path, "oldest", created="2025-01-02T00:00:00+00:00")
    assert Run.open("latest", tmp_path).name == "newer"
    assert Run.open("older", tmp_path).path == tmp_path / "older"
    assert Run.open(str(tmp_path / "oldest"), "elsewhere").name == "oldest"


def test_open_names_the_nearest_run_or_lists_the_newest(tmp_path):
    make(tmp_path, "triage-a", created="2026-01-01T00:00:00+00:00")
    make(tmp_path, "billing", created="2026-01-02T00:00:00+00:00")
    (tmp_path / "notes").mkdir()
    with pytest.raises(UsageError) as near:
        Run.open("triage-b", tmp_path)
    assert near.value.fix == "did you mean 'triage-a'?"
    with pytest.raises(UsageError) as far:
        Run.open("zzz", tmp_path)
    assert "billing, triage-a" in (far.value.fix or "")
    with pytest.raises(UsageError, match="not a run"):
        Run.open(str(tmp_path / "notes"), tmp_path)
    with pytest.raises(UsageError, match="there are no runs"):
        Run.open("latest", tmp_path / "none")
    with pytest.raises(UsageError) as empty:
        Run.open("x", tmp_path / "none")
    assert "there are no runs" in (empty.value.fix or "")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_run_is_said_and_skipped_by_latest(tmp_path, content):
    make(tmp_path, "good", created="2026-01-01T00:00:00+00:00")
    broken = make(tmp_path, "broken", created="2027-01-01T00:00:00+00:00")
    (broken.path / "run.json").write_text(content)
    with pytest.raises(UsageError, match=r"broken/run\.json can't be read"):
        Run.open("broken", tmp_path)
    assert Run.open("latest", tmp_path).name == "good"


def test_update_merges_and_writes_strict_json(tmp_path):
    run = make(tmp_path)
    run.update(status="running", result={"x": float("nan"), "y": [float("inf"), 1.5]})
    record = json.loads((run.path / "run.json").read_text(), parse_constant=pytest.fail)
    assert record["status"] == "running"
    assert record["result"] == {"x": None, "y": [None, 1.5]}
    assert record["model"] == "Qwen/Qwen3-0.6B"


def test_update_that_fails_keeps_the_old_file_and_no_draft(tmp_path):
    run = make(tmp_path)
    before = sorted(p.name for p in run.path.iterdir())
    with pytest.raises(TypeError):
        run.update(bad=object())
    assert run.info["status"] == "created"
    assert sorted(p.name for p in run.path.iterdir()) == before


def test_second_writer_is_refused_naming_the_first(tmp_path):
    run = make(tmp_path)
    code = (
        "import sys; from rft_cli.runs import Run\n"
        "with Run.open(sys.argv[1]).lock():\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"process {holder.pid} on"), run.lock():
            pytest.fail("the lock was given twice")
    finally:
        holder.kill()
        holder.communicate()
    with run.lock():  # a killed holder frees it
        assert json.loads((run.path / ".lock-holder").read_text())["pid"] == os.getpid()
    assert not (run.path / ".lock-holder").exists()


def test_second_writer_without_a_note_is_refused_too(tmp_path):
    run = make(tmp_path)
    with run.lock():
        (run.path / ".lock-holder").unlink()
        with pytest.raises(UsageError, match="another process"), run.lock():
            pytest.fail("the lock was given twice")


def test_metrics_survive_a_torn_line_and_are_truncated_on_resume(tmp_path):
    run = make(tmp_path)
    assert run.metrics() == []
    run.append_metrics({"step": 1, "reward": 0.5})
    with run.metrics_path.open("a") as file:
        file.write('{"step": 2, "rew')
    run.append_metrics({"step": 3, "reward": float("nan")})
    run.append_metrics({"step": 4, "reward": 0.75})
    assert run.metrics() == [
        {"step": 1, "reward": 0.5},
        {"step": 3, "reward": None},
        {"step": 4, "reward": 0.75},
    ]
    run.truncate(3)
    assert [row["step"] for row in run.metrics()] == [1, 3]
    assert run.metrics_path.read_text().count("\n") == 2


def test_rollouts_are_read_in_order_of_steps(tmp_path):
    run = make(tmp_path)
    run.write_rollouts(100, [{"step": 100}])
    run.write_rollouts(4, [{"step": 4, "text": "a\u2028b"}, {"step": 4}])
    assert (run.path / "rollouts" / "step-000004.jsonl").is_file()
    assert list(run.rollouts()) == [{"step": 4, "text": "a\u2028b"}, {"step": 4}, {"step": 100}]


def test_samples_come_back_as_they_were(tmp_path):
    run = make(tmp_path)
    samples = [
        Sample(0, "a:1", "Füge zu", "naïve \ud800 \x1b[31m", 5, False, Grade("graded", 0.5, {"json": 1.0})),
        Sample(1, "a:2", "p", "c", 7, True, Grade("failed", None, {}, GradeError("raised", "ValueError: x"))),
        Sample(2, "a:3", "p", "c", 1, False, Grade("skipped")),
    ]
    run.write_samples("step-000000", samples)
    assert run.read_samples("step-000000") == samples
    assert run.has_samples("step-000000")
    assert not run.has_samples("test-before")
    with pytest.raises(FileNotFoundError):
        run.read_samples("test-before")
    run.write_samples("step-000012", samples)
    run.write_samples("test-after", samples)
    assert run.validated_steps() == [0, 12]


def test_a_checkpoint_exists_only_once_committed(tmp_path):
    run = make(tmp_path)
    partial = run.begin_checkpoint(3)
    (partial / "model.safetensors").write_bytes(b"half")
    assert run.checkpoints() == []
    assert partial.parent == run.path / "checkpoints"

    target = save(run, 5)  # the torn one of step 3 is cleared away
    assert target == run.checkpoint_path(5)
    assert run.checkpoints() == [5]
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["step-5"]
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["step"] == 5
    assert manifest["files"]["model.safetensors"] == {
        "size": 7,
        "sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
    }
    assert sorted(manifest["files"]) == ["model.safetensors", "optim/rank0.pt"]
    assert run.verify_checkpoint(5) is None


def test_a_directory_without_manifest_is_no_checkpoint(tmp_path):
    run = make(tmp_path)
    save(run, 2)
    torn = run.path / "checkpoints" / "step-9"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"weights")
    (run.path / "checkpoints" / "notes").mkdir()
    assert run.checkpoints() == [2]
    assert "manifest.json is missing" in (run.verify_checkpoint(9) or "")


def test_committing_a_step_again_replaces_it(tmp_path):
    run = make(tmp_path)
    save(run, 4, b"old")
    save(run, 4, b"newer")
    assert (run.checkpoint_path(4) / "model.safetensors").read_bytes() == b"newer"
    assert run.verify_checkpoint(4) is None
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["step-4"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda p: (p / "model.safetensors").write_bytes(b"weightS"), "model.safetensors has changed"),
        (lambda p: (p / "model.safetensors").write_bytes(b"w"), "has 1 bytes, 7 were written"),
        (lambda p: (p / "optim" / "rank0.pt").unlink(), "optim/rank0.pt is missing"),
        (lambda p: (p / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (lambda p: (p / "manifest.json").write_text('{"files": {"a": 1}}'), "manifest.json is damaged"),
    ],
)
def test_every_damage_is_named(tmp_path, damage, said):
    run = make(tmp_path)
    damage(save(run, 1))
    assert said in (run.verify_checkpoint(1) or "")


def test_best_is_a_link_and_the_base_has_none(tmp_path):
    run = make(tmp_path)
    assert run.best_checkpoint() is None
    save(run, 1)
    save(run, 2)
    run.set_best(1)
    run.set_best(2)
    assert os.readlink(run.path / "best") == "checkpoints/step-2"
    assert run.best_checkpoint() == run.checkpoint_path(2)
    assert run.info["best_step"] == 2
    with pytest.raises(ValueError, match="not a committed checkpoint"):
        run.set_best(7)
    assert run.best_checkpoint() == run.checkpoint_path(2)
    run.set_best(None)
    assert run.best_checkpoint() is None
    assert not (run.path / "best").is_symlink()
    assert run.info["best_step"] == 0
    run.set_best(0)
    assert run.info["best_step"] == 0


def test_a_run_can_be_moved(tmp_path):
    run = make(tmp_path)
    save(run, 1)
    run.set_best(1)
    moved = Run(run.path.rename(tmp_path / "moved"))
    assert moved.best_checkpoint() == tmp_path / "moved" / "checkpoints" / "step-1"


def test_rotation_keeps_the_newest_the_best_and_the_protected(tmp_path):
    run = make(tmp_path)
    assert run.rotate(2) == []
    for step in (1, 2, 3, 10, 20):
        save(run, step)
    run.set_best(2)
    assert run.rotate(2, protect=[1]) == [3]
    assert run.checkpoints() == [1, 2, 10, 20]
    assert run.rotate(0) == [1, 10, 20]
    assert run.checkpoints() == [2]


def test_truncate_drops_the_batches_that_will_be_made_again(tmp_path):
    run = Run.create(tmp_path, "job", config_yaml="", info={})
    for step in (0, 4, 8):
        run.write_rollouts(step, [{"step": step}])
    run.truncate(4)
    assert list(run.rollouts()) == [{"step": 0}]
