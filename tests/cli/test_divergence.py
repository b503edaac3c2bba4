"""Real jobs that go wrong: exit code, message, finite checkpoints, warnings in run.json."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rft_cli.runs import Run
from tests.cli.conftest import GOOD

pytestmark = pytest.mark.fault("NaN in loss, gradient or weights; all skipped; all rewards equal")
SMALL = (
    "rollout.group_size=2",
    "rollout.prompts_per_batch=6",
    "ppo.passes=1",
    "ppo.minibatches=1",
    "grader.audit=none",
    "pilot.prompts=0",
)
STRICT = """
def score(completion, example):
    validation = int(example["input"].split()[0]) >= 100
    return 0.5 if validation or completion == example["output"] else None
"""
LENGTH = """
def score(completion):
    return len(completion) / 300
"""


def arguments(name: str, *settings: str, epochs: int) -> list[str]:
    sets = [word for setting in (*SMALL, *settings) for word in ("--set", setting)]
    return ["create", *GOOD, "--name", name, "--quiet", "--n-epochs", str(epochs), *sets]


def finite(checkpoint: Path) -> bool:
    weights = [load_file(file) for file in checkpoint.glob("*.safetensors")]
    assert weights
    return all(torch.isfinite(t).all() for found in weights for t in found.values())


def test_a_job_whose_weights_explode_ends_with_code_3_and_a_finite_checkpoint(rft, files: Path) -> None:
    (files / "scorer.py").write_text(LENGTH)
    settings = ("algorithm=grpo", "optim.learning_rate=1e37", "checkpoint.every_steps=1", "ppo.passes=5")
    done = rft(*arguments("boom", *settings, "validation.every_epochs=9", epochs=9))
    run = Run.open(files / "runs" / "boom")
    assert done.code == 3
    assert done.out == ""
    error, fix = done.err.splitlines()[-2:]
    what = r"(loss was|gradient was|loss and gradient were)"
    assert re.fullmatch(
        rf"error: training diverged: the {what} not finite in 3 steps in a row, the last at step 4", error
    )
    assert fix == (
        "  fix: lower optim.learning_rate (it was 1e+37) or raise ppo.kl_coef in a new run; the last good "
        "checkpoint is runs/boom/checkpoints/step-3, and `rft train --resume runs/boom` resumes from it"
    )
    assert run.info["status"] == "failed"
    lines = run.metrics()
    assert [line["skipped_steps"] for line in lines] == [0, 1, 2, 3]
    assert [line["loss"] is None for line in lines] == [False, True, True, True]
    assert all(finite(run.checkpoint_path(step)) for step in run.checkpoints())


def test_a_tripwire_stops_a_job_with_a_checkpoint_and_it_goes_on_with_a_warning(rft, files: Path) -> None:
    wire = (
        "tripwires.action=stop",
        "tripwires.window=1",
        "tripwires.truncated=0.5",
        "rollout.max_completion_tokens=4",
    )
    done = rft(*arguments("short", *wire, epochs=3))
    run = Run.open("runs/short")
    assert done.code == 3
    assert "warning: step 1: 100% of the completions were cut at 4 tokens" in done.err
    assert "error: a tripwire ended the job: " in done.err
    assert "`rft train --resume runs/short` resumes from it" in done.err
    assert run.checkpoints() == [1]
    assert [(w["step"], w["tripwire"]) for w in run.info["warnings"] if "tripwire" in w] == [
        (1, "completion_limit"),
        (1, "truncated"),
    ]


def test_a_warning_ends_no_job_and_stands_in_the_run(rft, files: Path) -> None:
    done = rft(*arguments("warned", "tripwires.window=1", "tripwires.entropy=9", epochs=2))
    assert done.code == 0, done.err
    warnings = json.loads((files / "runs/warned/run.json").read_text())["warnings"]
    (warning,) = (w for w in warnings if "tripwire" in w)
    assert (warning["step"], warning["tripwire"]) == (1, "entropy")
    assert f"warning: step 1: {warning['text']}" in done.err.splitlines()


def test_every_line_has_the_value_loss_and_a_batch_without_grades_has_no_figures(rft, files: Path) -> None:
    (files / "scorer.py").write_text(STRICT)
    done = rft(*arguments("blank", "ppo.passes=2", "ppo.critic=mlp", epochs=1))
    first, second = Run.open("runs/blank").metrics()
    assert done.code == 0, done.err
    for name in ("reward", "kl", "kl_k3", "kl_per_token", "explained_variance", "entropy", "policy_loss"):
        assert first[name] is None, name
    assert first["loss"] == 0.0  # nothing counted, so nothing was lost: a sum, not a mean
    assert first["value_loss"] == second["value_loss"] == 0.0
    assert first["skipped_steps"] == second["skipped_steps"] == 0
