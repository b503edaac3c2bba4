"""No file of a checkpoint runs code, whoever wrote it; and no token reaches a file of a run."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from rft_cli.runs import Run
from rft_cli.runs.files import sha256_of
from tests.faults.jobs import make_files, rft_here, small_arguments

CANARY = "canary-5f1d0c7e9b"
pytestmark = pytest.mark.fault("planted pickles, tokens")


class Payload:
    """A pickle of it runs a command where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def plant(run: Run, step: int, name: str, mark: Path) -> None:
    """Put the payload in place of a file (or beside the others), and sign it: who can write one can write both."""
    folder = run.checkpoint_path(step)
    torch.save({"x": Payload(mark)}, folder / name)
    manifest = folder / "manifest.json"
    record = json.loads(manifest.read_text())
    record["files"] = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in folder.rglob("*")
        if path.is_file() and path != manifest
    }
    manifest.write_text(json.dumps(record))
    assert run.verify_checkpoint(step) is None


def test_the_payload_works(tmp_path):
    """Else the tests below show nothing."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def test_planted_pickles_are_not_run_by_resume(tmp_path, finished):
    run = finished(tmp_path / "job")
    names = sorted(
        path.name for path in run.checkpoint_path(2).iterdir() if path.suffix in (".pt", ".pth", ".bin")
    )
    assert {"critic.pt", "optimizer.pt", "rng_state.pth", "rollout-0.pt", "scheduler.pt"} <= {*names}
    kept = shutil.copytree(run.path, tmp_path / "kept", symlinks=True)
    for name in names:
        shutil.rmtree(run.path)
        shutil.copytree(kept, run.path, symlinks=True)
        for planted in ("training_args.bin", "pytorch_model.bin", name):
            plant(run, 2, planted, tmp_path / "mark")
        done = rft_here(tmp_path / "job", "train", "--resume", "a", "--n-epochs", "3")
        assert "Traceback" not in done.err
        assert done.code == 3, (name, done.err)
        assert not (tmp_path / "mark").exists(), name


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin"])
def test_planted_weights_are_not_run_by_validate_and_export(tmp_path, name, finished):
    run = finished(tmp_path / "job")
    run.set_best(2)
    (run.checkpoint_path(2) / "model.safetensors").unlink()
    if name.startswith("adapter"):
        (run.checkpoint_path(2) / "adapter_config.json").write_text(
            '{"peft_type": "LORA", "base_model_name_or_path": "builtin/tiny", "target_modules": ["q_proj"], "r": 4}'
        )
    plant(run, 2, name, tmp_path / "mark")
    for command in (("validate", "--run", "a"), ("export", "a")):
        done = rft_here(tmp_path / "job", *command)
        assert done.code in (2, 3), done.err
        assert "load" in done.err
        assert "Traceback" not in done.err
        assert not (tmp_path / "mark").exists()


def test_no_token_is_in_any_file_of_a_run(tmp_path, warm):
    make_files(tmp_path, rows=4)
    tokens = {
        name: CANARY for name in ("HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "HUGGING_FACE_HUB_TOKEN")
    }
    done = warm.start(tmp_path, small_arguments("a", epochs=1), **tokens).wait()
    assert done.code == 0, done.err
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    assert CANARY not in done.out + done.err
