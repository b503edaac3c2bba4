"""Memory that runs out before a job has any work: one message, and nothing left behind. A hook raises on a CPU here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rft_cli.training import build, pilot
from rft_cli.training.rollouts.validation import Validator
from tests.cli.conftest import GOOD

SMALL = ("--n-epochs", "1", "--set", "grader.workers=1", "--set", "rollout.max_completion_tokens=8")
SAMPLING = "set validation.batch_size or rollout.max_completion_tokens lower, or take a smaller model"
WEIGHTS = "take a smaller model or a GPU with more memory, or set lora.enabled to true"


def run_out(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


@pytest.mark.parametrize(
    ("place", "name", "fix"),
    [(Validator, "run", SAMPLING), (pilot, "_timed_pass", SAMPLING), (build, "frozen_copy", WEIGHTS)],
)
def test_create(rft, files: Path, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, fix: str) -> None:
    monkeypatch.setattr(place, name, run_out)
    done = rft("create", *GOOD, *SMALL, "--set", "pilot.gate=none")
    assert done.code == 3, done.err
    assert "error: out of memory: CUDA out of memory. Tried to allocate 2.00 GiB.\n" in done.err
    assert fix in " ".join(done.err.split())
    assert "internal error" not in done.err
    assert list(Path("runs").iterdir()) == []


def test_validate(rft, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Validator, "run", run_out)
    done = rft("validate", *GOOD, "--model", "builtin/tiny", "--set", "rollout.max_completion_tokens=8")
    assert done.code == 3
    assert "error: out of memory: CUDA out of memory" in done.err
    assert SAMPLING in " ".join(done.err.split())
