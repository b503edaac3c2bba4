"""What another thread reads off the main thread's stack."""

from __future__ import annotations

import importlib
import inspect
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.nn.parallel import DistributedDataParallel

import rft_cli
from rft_cli.pulse import Pulse
from rft_cli.runs.files import write_lines
from rft_cli.training.distributed.vitals import PHASES, Examiner, Vitals

OWNERS = {
    "save": "rft_cli.training.hooks.saving:CheckpointWriter",
    "__call__": "rft_cli.training.rollouts.rewards:GraderReward",
    "run": "rft_cli.training.rollouts.validation:Validator",
    "_generate_single_turn": "trl:GRPOTrainer",
    "_generate_and_score_completions": "trl:GRPOTrainer",
    "training_step": "transformers:Trainer",
    "_load": "rft_cli.training.main:",
    "check": "rft_cli.training.main:",
    "build_trainer": "rft_cli.training.build:",
}


@pytest.mark.parametrize(("part", "function"), [(part, function) for part, function, _ in PHASES])
def test_every_phase_names_code_that_exists(part: str, function: str) -> None:
    assert (Path(rft_cli.__file__).parents[1] / part).exists()
    if function:
        module, _, name = OWNERS[function].partition(":")
        owner = importlib.import_module(module)
        assert callable(getattr(getattr(owner, name) if name else owner, function))


def looked_at(doing: object, times: int = 1) -> list[Vitals]:
    """What a thread sees while this one is busy `doing`."""
    examiner = Examiner(Pulse())
    found: list[Vitals] = []

    def look() -> None:
        for _ in range(times):
            time.sleep(0.1)
            found.append(examiner.look())

    thread = threading.Thread(target=look)
    thread.start()
    doing(thread)  # type: ignore[operator]
    return found


def test_a_thread_that_waits_outside_of_all_phases() -> None:
    (seen,) = looked_at(lambda thread: thread.join())
    assert (seen.phase, seen.waits, seen.seen) == ("working", False, ())
    assert "threading.py" in seen.where


def test_the_innermost_frame_says_the_phase_and_the_place(tmp_path: Path) -> None:
    def rows(thread: threading.Thread) -> Iterator[dict[str, int]]:
        thread.join()
        yield {}

    def save(thread: threading.Thread) -> None:
        write_lines(tmp_path / "file", rows(thread))

    first, second = looked_at(save, times=2)
    assert (first.phase, second.phase) == ("saving", "saving")
    assert "rft_cli/runs/files.py:" in first.where
    assert first.where.endswith("in write_lines")
    assert second.beats == first.beats  # it stood still, though in a phase whose moves count


def test_moves_count_where_libraries_do_the_work() -> None:
    def busy(thread: threading.Thread) -> None:
        while thread.is_alive():
            sum(i * i for i in range(1000))

    found = looked_at(busy, times=5)
    assert found[-1].beats > found[0].beats


def test_beats_are_counted() -> None:
    pulse = Pulse()
    pulse.beat("what", "a", "hook passes")
    pulse.beat()
    assert pulse.beats == 2


def test_a_process_that_waits_for_others_inside_of_ddp_waits() -> None:
    """DDP sends buffers around before a forward pass: in C++, called from its own file."""
    file = inspect.getsourcefile(DistributedDataParallel)
    assert file is not None
    names: dict[str, Any] = {"sleep": time.sleep}
    exec(compile("def wait(thread):\n    while thread.is_alive(): sleep(0.3)", file, "exec"), names)
    seen = looked_at(names["wait"], times=2)
    assert any(vitals.waits for vitals in seen)
