"""One process of a job that `benchmarks/scale.py` measures: the real command, with a clock around each phase.

Writes a JSON line for each rollout batch but the last: wall and CPU seconds of its phases, and when its turn came.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import rft_cli.training.main  # noqa: F401  (once, before the forks)
from rft_cli.cli import main
from rft_cli.training.rollouts.rewards import GraderReward
from rft_cli.training.rollouts.rollout_batches import RolloutBatches
from rft_cli.training.rollouts.rollout_trainer import RolloutTrainer


class Clock:
    """Sums wall and CPU seconds by phase, until `turn` writes them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._sums: dict[str, list[float]] = {}
        self._turn: tuple[float, float] | None = None

    def timed(self, phase: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work` with its time added to `phase`."""

        def run(*args: Any, **kwargs: Any) -> Any:
            wall, cpu = perf_counter(), process_time()
            try:
                return work(*args, **kwargs)
            finally:
                sums = self._sums.setdefault(phase, [0.0, 0.0])
                sums[0] += perf_counter() - wall
                sums[1] += process_time() - cpu

        return run

    def turn(self) -> None:
        """The next batch's turn comes: write the line of the one before."""
        now = (perf_counter(), process_time())
        if self._turn is not None:
            line = {
                "at": self._turn[0],
                "whole": [b - a for a, b in zip(self._turn, now, strict=True)],
                **self._sums,
            }
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self._turn, self._sums = now, {}


def install(clock: Clock) -> None:
    """Put the clock around the trainer's phases."""
    next_batch = clock.timed("rollout", RolloutBatches._next_batch)

    def turned(self: Any, number: int) -> Any:
        clock.turn()
        return next_batch(self, number)

    RolloutBatches._next_batch = turned  # type: ignore[method-assign]
    RolloutTrainer._sample_checked = clock.timed("sample", RolloutTrainer._sample_checked)  # type: ignore[method-assign]
    GraderReward.__call__ = clock.timed("wait", GraderReward.__call__)  # type: ignore[method-assign]


def run(file: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """`rft` with these arguments, in a forked process; its output goes to a file beside `file`."""
    os.environ.update(environment)
    log = os.open(file.with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    install(Clock(file))
    sys.argv = ["rft", *arguments]
    main()
