"""Two small finished runs of builtin/tiny, made once by the command line: all weights trained, and LoRA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from rft_cli.runs import Run
from tests.command import ROOT
from tests.faults.jobs import rft_here

ROWS = 8
BREVITY = '''"""The shorter the better: every change of the policy shows, and a few steps are enough to gain."""


def score(completion):
    return 1 / (1 + len(completion) / 20)
'''
SMALL = (
    "rollout.group_size=2",
    "rollout.prompts_per_batch=4",
    "ppo.critic_warmup=0",
    "validation.temperature=0",
)


def make_run(folder: Path, name: str, *flags: str, scorer: str = BREVITY) -> Run:
    """`rft create` on eight training and eight validation rows of the sample data; raises where it fails."""
    for kind in ("train", "val"):
        lines = (ROOT / "sample_data" / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{kind}.jsonl").write_text("".join(lines[:ROWS]), encoding="utf-8")
    (folder / "scorer.py").write_text(scorer, encoding="utf-8")
    data = ("-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py")
    settings = (word for setting in SMALL for word in ("--set", setting))
    done = rft_here(folder, "create", *data, "--name", name, "--quiet", *settings, *flags)
    assert done.code == 0, done.err[-3000:]
    return Run.open(folder / "runs" / name)


def _shared(factory: pytest.TempPathFactory, name: str, *flags: str) -> Run:
    """Made once for all of pytest-xdist's workers."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"run-{name}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            make_run(folder, name, *flags)
            (folder / "done").touch()
    return Run.open(folder / "runs" / name)


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs of PPO on all weights that beat the base. Read it, do not write into it."""
    more = ("--set", "rollout.group_size=4")
    return _shared(tmp_path_factory, "full", "--n-epochs", "2", "--learning-rate", "1e-3", *more)


@pytest.fixture(scope="session")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same with LoRA and a critic."""
    lora = ("--set", "lora.enabled=true", "--set", "ppo.critic=mlp")
    return _shared(tmp_path_factory, "lora", "--n-epochs", "2", "--learning-rate", "3e-3", *lora)
