"""Several processes on CPU with gloo: DDP, FSDP2 and DeepSpeed ZeRO make the same first update as one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rft_cli.training.distributed.ranks import environment
from tests.faults.jobs import WarmJobs
from tests.training.distributed.launching import (
    ON_CPU,
    free_port,
    launch,
    on_this_machine,
    skip_without_deepspeed,
)

SCRIPT = "tests.training.distributed.first_update"
TUNED = ("full", "lora")
Seen = dict[str, dict[str, Any]]
"""What each kind of update saw."""


def run(warm: WarmJobs, script: str, processes: int, folder: Path, *arguments: str) -> None:
    """Run this script in so many warm children, with the variables that rft gives to its training processes."""
    code = f"import sys; sys.argv = {[script, str(folder), *arguments]!r}; from {script} import main; sys.exit(main())"
    port, begun = free_port(), []
    for rank in range(processes):
        output = folder / f"process-{rank}"
        output.mkdir()
        group = environment(rank, processes, port) if processes > 1 else {}
        begun.append(warm.start(output, [], before=code, **ON_CPU, **group))
    for process in begun:
        ended = process.wait()
        assert ended.code == 0, ended.err[-3000:]


def updates(folder: Path) -> Seen:
    return {kind: json.loads((folder / f"{kind}.json").read_text()) for kind in TUNED}


@pytest.fixture(scope="module")
def alone(warm: WarmJobs, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("alone")
    run(warm, SCRIPT, 1, folder, *TUNED)
    return updates(folder)


@pytest.fixture(scope="module")
def ddp(warm: WarmJobs, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("ddp")
    run(warm, SCRIPT, 2, folder, *TUNED)
    return updates(folder)


@pytest.fixture(scope="module", params=["fsdp2", "zero2", "zero3"])
def sharded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Seen]:
    skip_without_deepspeed(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    ended = launch(
        folder, on_this_machine(request.param), "-m", SCRIPT, str(folder), "--sharded", *TUNED
    ).wait()
    assert ended.code == 0, ended.out[-3000:]
    return request.param, updates(folder)


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


def test_what_is_not_finite_in_one_process_is_skipped_in_all(warm: WarmJobs, tmp_path: Path) -> None:
    run(warm, "tests.training.distributed.one_bad_rank", 2, tmp_path)
    one, other = (json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in (0, 1))
    assert one == other
    assert one["world_size"] == 2
    assert [line["skipped_steps"] for line in one["lines"]] == [0, 1, 1, 2, 2, 2]
    assert [line["skipped_critic_steps"] for line in one["lines"]] == [0, 0, 0, 0, 2, 2]
    assert [line["loss"] is None for line in one["lines"]] == [False, True, False, True, False, False]
    assert one["finite"] is True
    assert one["finite_when_one_is_not"] is False
