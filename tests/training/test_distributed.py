"""Several processes on CPU with gloo: DDP, FSDP2 and DeepSpeed ZeRO make the same first update as one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command import environment
from tests.training.distributed.launching import (
    DDP,
    LAUNCH,
    ON_CPU,
    TWO,
    on_this_machine,
    skip_without_deepspeed,
)

SCRIPT = ("-m", "tests.training.distributed.first_update")
TUNED = ("full", "lora")
Seen = dict[str, dict[str, Any]]
"""What each kind of update saw."""


def run(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment(**ON_CPU),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def first_updates(folder: Path, launcher: tuple[str, ...], *options: str) -> Seen:
    before = (*LAUNCH[1:], *launcher) if launcher else ()
    run(*before, *SCRIPT, str(folder), *options, *TUNED)
    return {kind: json.loads((folder / f"{kind}.json").read_text()) for kind in TUNED}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return first_updates(tmp_path_factory.mktemp("alone"), ())


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return first_updates(tmp_path_factory.mktemp("ddp"), (*DDP, *TWO))


@pytest.fixture(scope="module", params=["fsdp2", "zero2", "zero3"])
def sharded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Seen]:
    skip_without_deepspeed(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, first_updates(folder, on_this_machine(request.param), "--sharded")


def check_same(two: dict[str, Any], one: dict[str, Any]) -> None:
    """Loss and gradient norm to 1e-4, the metrics that must be global, and the critic after its three passes."""
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4, abs=1e-6)
    for name in ("reward", "entropy", "return_mean", "value_loss"):
        assert two[name] == pytest.approx(one[name], rel=1e-4), name
    assert two["kl"] == pytest.approx(0.0, abs=1e-4)
    assert len(two["critic"]) == len(one["critic"])
    assert two["critic"][2:] == pytest.approx(one["critic"][2:], rel=1e-2)


@pytest.mark.parametrize("kind", TUNED)
def test_one_process_leaves_the_failed_grade_out(alone: Seen, kind: str) -> None:
    # Rewards are (7 i mod 5) / 4 for i = 0..15 without i = 5: 0 .5 1 .25 .75 | .5 1 .25 .75 | 0 .5 1 .25 .75 | 0 = 7.5
    assert alone[kind]["world_size"] == 1
    assert alone[kind]["reward"] == pytest.approx(7.5 / 15, abs=1e-6)


@pytest.mark.parametrize("kind", TUNED)
def test_two_ddp_processes_make_the_same_update(alone: Seen, ddp: Seen, kind: str) -> None:
    assert ddp[kind]["world_size"] == 2
    assert ddp[kind]["classes"][0] == "DistributedDataParallel"
    check_same(ddp[kind], alone[kind])


@pytest.mark.parametrize("kind", TUNED)
def test_two_processes_that_share_the_model_make_the_same_update(
    alone: Seen, sharded: tuple[str, Seen], kind: str
) -> None:
    name, found = sharded
    assert found[kind]["world_size"] == 2
    assert ("FSDPModule" in found[kind]["classes"]) == (name == "fsdp2")
    assert ("DeepSpeedEngine" in found[kind]["classes"]) == (name != "fsdp2")
    assert found[kind]["stage"] == {"fsdp2": 0, "zero2": 2, "zero3": 3}[name]
    check_same(found[kind], alone[kind])


def test_what_is_not_finite_in_one_process_is_skipped_in_all(tmp_path: Path) -> None:
    run(*LAUNCH[1:], *DDP, *TWO, "-m", "tests.training.distributed.one_bad_rank", str(tmp_path))
    one, other = (json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in (0, 1))
    assert one == other
    assert one["world_size"] == 2
    assert [line["skipped_steps"] for line in one["lines"]] == [0, 1, 1, 2, 2, 2]
    assert [line["skipped_critic_steps"] for line in one["lines"]] == [0, 0, 0, 0, 2, 2]
    assert [line["loss"] is None for line in one["lines"]] == [False, True, False, True, False, False]
    assert one["finite"] is True
    assert one["finite_when_one_is_not"] is False
