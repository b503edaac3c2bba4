"""Every YAML under configs/ trains through the real CLI, with the overrides below where this machine has no means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command import ROOT, rft
from tests.faults.jobs import rft_here

JOBS = sorted((ROOT / "configs").glob("*.yaml"))

SMALL = (
    "model.path=builtin/tiny", "model.dtype=float32", "model.gradient_checkpointing=false",  # no GPU, no hub
    "optim.n_epochs=1", "optim.micro_batch_size=auto", "rollout.group_size=2", "rollout.prompts_per_batch=4",
    "rollout.max_completion_tokens=8", "grader.workers=1", "checkpoint.every_steps=auto",
    "pilot.prompts=2", "pilot.gate=none",
)  # fmt: skip
"""Overridden in every file: size and device. Algorithm, LoRA, critic and PPO's settings stay as the file has them."""


def few_rows(folder: Path) -> tuple[Path, Path]:
    """Eight training and eight validation rows: the whole sample files would take minutes."""
    paths = []
    for name in ("train", "val"):
        lines = (ROOT / "sample_data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        paths.append(folder / f"{name}.jsonl")
        paths[-1].write_text("".join(lines[:8]), encoding="utf-8")
    return paths[0], paths[1]


@pytest.mark.parametrize("config", JOBS, ids=lambda path: path.stem)
def test_the_config_trains(config: Path, tmp_path: Path) -> None:
    train, validation = few_rows(tmp_path)
    sets = [*SMALL, f"data.train={train}", f"data.validation={validation}", f"output_dir={tmp_path / 'runs'}"]
    arguments = ["train", str(config), "--json", *(x for s in sets for x in ("--set", s))]
    # One of them as people start it; for the others the imports of this process do.
    done = rft(*arguments, folder=tmp_path) if config == JOBS[0] else rft_here(tmp_path, *arguments)
    assert done.code == 0, done.err[-3000:]
    result: dict[str, Any] = json.loads(done.out)
    assert result["status"] == "finished"
    assert result["completions_sampled"] == 16
    assert result["validation"]["after"]["n"] == 8
    run = Path(result["run"])
    assert (run / "checkpoints").is_dir()
    saved = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert saved["algorithm"] == ("grpo" if config.stem == "grpo" else "ppo")
