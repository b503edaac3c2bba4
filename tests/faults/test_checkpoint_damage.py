"""Checkpoints that can be trusted: each file of one damaged in each way, and a death at each call of commit and rotate.

The damaged one is set aside and named, the newest valid one is used; with none left, nothing is changed on disk.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rft_cli.commands.resume.plan import plan_resume
from rft_cli.commands.resume.prepare import prepare
from rft_cli.commands.settings import Settings
from rft_cli.errors import UsageError
from rft_cli.job import load_job
from rft_cli.report.estimates import estimate
from rft_cli.runs import Run
from rft_cli.runs.checkpoints import CheckpointStore
from tests.faults.jobs import in_child, rft_here, tree

WEIGHTS = "model.safetensors"
pytestmark = pytest.mark.fault("torn, truncated, bit-flipped, missing files in a checkpoint")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "bit-flipped": flip,
}


@pytest.fixture
def run(tmp_path, finished) -> Run:
    return finished(tmp_path)


def ready(run: Run, epochs: int = 3) -> list[str]:
    """Make the run ready to go on, as `rft train --resume` does before it trains; what people were told."""
    plan = plan_resume(str(run.path), Settings(None, {"optim.n_epochs": str(epochs)}, []))
    said: list[str] = []
    prepare(plan, load_job(plan.loaded.config), {}, lambda event: said.append(event.text))
    return said


def test_each_file_damaged_in_each_way_is_set_aside_and_named(run):
    newest = run.checkpoint_path(2)
    names = sorted(p.relative_to(newest).as_posix() for p in newest.rglob("*") if p.is_file())
    assert {"manifest.json", "model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt"} < {*names}
    whole = run.path.with_name("whole")
    shutil.copytree(run.path, whole, symlinks=True)
    for name in names:
        for kind, damage in DAMAGES.items():
            shutil.rmtree(run.path)
            shutil.copytree(whole, run.path, symlinks=True)
            damage(newest / name)
            told = ready(run)
            where = f"{name}, {kind}"
            assert told[0].startswith("checkpoint 2 is damaged: "), where
            named = [each for each in names if f"/step-2/{each} " in told[0]]
            # Of a manifest that is still JSON only its word about some file is wrong, and that file is named.
            assert name in named or (name == "manifest.json" and named), where
            assert told[0].endswith(f"set aside as {run.path}/checkpoints/damaged-step-2-1"), where
            assert told[-1] == "resuming from checkpoint 1", where
            assert run.checkpoints() == run.store.present() == [1], where


def test_damage_of_the_manifest_that_is_valid_json_is_seen(run):
    newest = run.checkpoint_path(2)
    file = newest / "manifest.json"
    whole = json.loads(file.read_text())
    dropped = {name: entry for name, entry in whole["files"].items() if name != "optimizer.pt"}
    outside = {**whole["files"], "../../run.json": whole["files"][WEIGHTS]}
    for record, said in (
        ({**whole, "files": dropped}, "optimizer.pt is not in manifest.json"),
        ({**whole, "files": outside}, "manifest.json is damaged"),
        ({**whole, "files": {**whole["files"], "more.pt": whole["files"][WEIGHTS]}}, "more.pt is missing"),
        ({**whole, "step": 3}, "manifest.json is damaged"),
        ({**whole, "schema_version": 2}, "manifest.json is damaged"),
        ({key: value for key, value in whole.items() if key != "schema_version"}, "manifest.json is damaged"),
    ):
        file.write_text(json.dumps(record))
        assert said in (run.verify_checkpoint(2) or "")
    file.write_text(json.dumps(whole))
    assert run.verify_checkpoint(2) is None
    shutil.rmtree(newest)
    newest.mkdir()
    file.mkdir()
    assert run.verify_checkpoint(2) == f"{file} can't be read: Is a directory"


def test_files_that_no_manifest_names_are_damage(run):
    (run.checkpoint_path(2) / "pytorch_model.bin").write_bytes(b"x")
    assert (
        ready(run)[0]
        .split(": ")[1]
        .endswith(
            "pytorch_model.bin is not in manifest.json; set aside as "
            + str(run.path / "checkpoints" / "damaged-step-2-1")
        )
    )


def test_a_best_that_is_not_there_is_told_and_a_lost_link_is_not_missed(run):
    run.set_best(2)
    (run.path / "best").unlink()  # as a copy may lose it
    assert run.best_checkpoint() == run.checkpoint_path(2)
    shutil.copytree(run.checkpoint_path(2), run.path / "best")  # as `scp -r` makes of it
    assert run.best_checkpoint() == run.checkpoint_path(2)
    run.set_best(2)
    assert os.readlink(run.path / "best") == "checkpoints/step-2"
    (run.path / "best").unlink()
    (run.path / "best").symlink_to("../elsewhere")
    assert run.best_checkpoint() == run.checkpoint_path(2)
    run.update(best_step=9)
    with pytest.raises(UsageError, match="its best checkpoint, step-9, is missing"):
        run.best_checkpoint()
    run.set_best(None)
    assert run.best_checkpoint() is None


def test_with_none_left_valid_nothing_is_changed(run, tmp_path):
    for step in (1, 2):
        flip(run.checkpoint_path(step) / WEIGHTS)
    (run.path / ".metrics.jsonl.1-0123abcd").write_text("left by a dead process")
    before = tree(tmp_path)
    done = rft_here(tmp_path, "train", "--resume", "a", "--n-epochs", "3")
    assert done.code == 2
    assert done.errors == ["error: every checkpoint of runs/a is damaged:"]
    assert "  step 1: runs/a/checkpoints/step-1/model.safetensors has changed" in done.err
    assert "  step 2: runs/a/checkpoints/step-2/model.safetensors has changed" in done.err
    assert tree(tmp_path) == before
    for step in (1, 2):  # gone, and not damaged: it does not start over either
        shutil.rmtree(run.checkpoint_path(step))
    before = tree(tmp_path)
    done = rft_here(tmp_path, "train", "--resume", "a", "--n-epochs", "3")
    assert (done.code, done.errors) == (2, ["error: runs/a has no checkpoint any more"])
    assert tree(tmp_path) == before


def test_a_second_damage_of_the_same_step_gets_a_name_of_its_own(run):
    flip(run.checkpoint_path(2) / WEIGHTS)
    ready(run)
    shutil.copytree(run.checkpoint_path(1), run.checkpoint_path(2))
    assert ready(run)[0].endswith("damaged-step-2-2")  # its manifest is step 1's


# A death at each call that changes the disk.

CALLS = ("open", "fsync", "rename", "replace", "unlink", "rmdir", "mkdir")


def dies_at(number: int, after: bool, work: Callable[[], None]) -> bool:
    """Do `work` in a child that dies at its `number`th call, before or after it; whether it came that far."""
    left = number

    def dying(real):
        def call(*args, **options):
            nonlocal left
            left -= 1
            if left == 0 and not after:
                os._exit(9)
            last = left == 0
            try:
                return real(*args, **options)
            finally:
                if last:
                    os._exit(9)

        return call

    def mortal() -> None:
        for name in CALLS:
            setattr(os, name, dying(getattr(os, name)))
        work()

    code, said = in_child(mortal)()
    assert code in (0, 9), said
    return code == 9


def small(store: CheckpointStore, step: int, content: bytes) -> None:
    partial = store.begin(step)
    (partial / "model.safetensors").write_bytes(content * 50)
    (partial / "state").mkdir()
    (partial / "state" / "rank0.pt").write_bytes(content)
    store.commit(step, partial)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("step", "least"), [(3, 2), (2, 2)], ids=["a new one", "in place of one"])
def test_a_death_at_any_call_leaves_the_newest_valid_one(tmp_path, step, least, after):
    begun = CheckpointStore(tmp_path / "begun")
    small(begun, 1, b"first")
    small(begun, 2, b"second")
    deaths = 0
    while True:
        folder = shutil.copytree(begun.folder, tmp_path / f"{deaths}")
        store = CheckpointStore(folder)

        def work(store=store):
            small(store, step, b"third")
            store.rotate(1, protect=[])

        if not dies_at(deaths + 1, after, work):
            break
        deaths += 1
        back = store.replaced()
        if back is not None:
            store.put_back(back)
        assert store.present() == store.steps(), deaths
        newest = store.steps()[-1]
        assert newest >= least, deaths
        assert [store.verify(found) for found in store.steps()] == [None] * len(store.steps()), deaths
        weights = (store.path(newest) / "model.safetensors").read_bytes()
        assert weights in ((b"second" * 50, b"third" * 50) if newest == 2 else (b"third" * 50,)), deaths
        small(store, 4, b"fourth")  # what the dead one left is in nobody's way
        assert store.rotate(1, protect=[]) is not None
        assert [path.name for path in folder.iterdir()] == ["step-4"], deaths
    assert deaths >= 20
    assert store.steps() == [step]


def test_a_checksum_in_the_manifest_is_sha256(run):
    folder = run.checkpoint_path(1)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    for name, entry in files.items():
        assert entry["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_a_damaged_newest_is_passed_over_by_the_real_job(run, tmp_path):
    """From the command line to the end: the step is trained again from the checkpoint before it."""
    run.set_best(2)
    flip(run.checkpoint_path(2) / "optimizer.pt")
    done = rft_here(tmp_path, "train", "--resume", "a", "--n-epochs", "3")
    assert done.code == 0, done.err
    assert "warning: checkpoint 2 is damaged: runs/a/checkpoints/step-2/optimizer.pt has changed" in done.err
    assert "warning: the best checkpoint, 2, is lost: the best of the others takes its place" in done.err
    assert "resuming from checkpoint 1" in done.err
    assert run.validated_steps() == [0, 1, 2, 3]
    means = {step: estimate(run.read_samples(f"step-{step:06d}")).mean for step in run.validated_steps()}
    assert run.info["best_step"] == max(means, key=means.__getitem__)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    assert run.checkpoints() == [1, 2, 3]
    assert run.info["status"] == "finished"
    assert [run.verify_checkpoint(step) for step in (1, 2, 3)] == [None] * 3
