"""Several processes on CPU with gloo: DDP and real FSDP2 make the same first update as one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TWO = ("--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
DDP = ("--multi_gpu", *TWO)
FSDP2 = (
    "--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP",
    "--fsdp_state_dict_type", "FULL_STATE_DICT", "--fsdp_reshard_after_forward", "true", *TWO,
)  # fmt: skip
LAUNCH = ("-m", "accelerate.commands.launch")
SCRIPT = ("-m", "tests.training.distributed.first_update")


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def first_update(out: Path, launcher: tuple[str, ...], options: tuple[str, ...]) -> dict[str, Any]:
    before = (*LAUNCH, *launcher) if launcher else ()
    run(*before, *SCRIPT, str(out), *options)
    return json.loads(out.read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=[(), ("--shared",), ("--lora",)], ids=["full", "shared", "lora"])
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return tuple(request.param)


@pytest.fixture(scope="module")
def alone(options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return first_update(tmp_path_factory.mktemp("alone") / "seen.json", (), options)


def check_same(two: dict[str, Any], one: dict[str, Any]) -> None:
    """Loss and gradient norm to 1e-4, the metrics that must be global, and the critic after its three passes."""
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4, abs=1e-6)
    for name in ("reward", "entropy", "return_mean", "value_loss"):
        assert two[name] == pytest.approx(one[name], rel=1e-4), name
    assert two["kl"] == pytest.approx(0.0, abs=1e-4)
    assert len(two["critic"]) == len(one["critic"])
    assert two["critic"][2:] == pytest.approx(one["critic"][2:], rel=1e-2)


def test_one_process_leaves_the_failed_grade_out(alone: dict[str, Any]) -> None:
    # Rewards are (7 i mod 5) / 4 for i = 0..15 without i = 5: 0 .5 1 .25 .75 | .5 1 .25 .75 | 0 .5 1 .25 .75 | 0 = 7.5
    assert alone["world_size"] == 1
    assert alone["reward"] == pytest.approx(7.5 / 15, abs=1e-6)


def test_two_ddp_processes_make_the_same_update(
    alone: dict[str, Any], options: tuple[str, ...], tmp_path: Path
) -> None:
    two = first_update(tmp_path / "seen.json", DDP, options)
    assert two["world_size"] == 2
    assert two["wrapper"] == "DistributedDataParallel"
    check_same(two, alone)


def test_two_fsdp2_processes_make_the_same_update(
    alone: dict[str, Any], options: tuple[str, ...], tmp_path: Path
) -> None:
    two = first_update(tmp_path / "seen.json", FSDP2, (*options, "--fsdp"))
    assert two["world_size"] == 2
    assert "FSDPModule" in two["classes"]
    check_same(two, alone)


def test_what_is_not_finite_in_one_process_is_skipped_in_all(tmp_path: Path) -> None:
    run(*LAUNCH, *DDP, "-m", "tests.training.distributed.one_bad_rank", str(tmp_path))
    one, other = (json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in (0, 1))
    assert one == other
    assert one["world_size"] == 2
    assert [line["skipped_steps"] for line in one["lines"]] == [0, 1, 1, 2, 2, 2]
    assert [line["skipped_critic_steps"] for line in one["lines"]] == [0, 0, 0, 0, 2, 2]
    assert [line["loss"] is None for line in one["lines"]] == [False, True, False, True, False, False]
    assert one["finite"] is True
    assert one["finite_when_one_is_not"] is False
