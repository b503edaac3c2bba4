"""Trainer callbacks by which a side works in rounds, or trains until its validation reward is high enough.

Both trainers under comparison are transformers' Trainers, so the same callbacks drive them; this module runs in both
environments and imports nothing that only one of them has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter, process_time
from typing import Any

import torch
from transformers import TrainerCallback

from benchmarks.side import Channel


class Over(Exception):
    """Raised out of `train()` when there is nothing more to measure."""


def now() -> float:
    """Seconds on a clock that runs on only when the device has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


class Rounds(TrainerCallback):  # type: ignore[misc]  # transformers' callbacks are untyped
    """Answers `round` with the seconds of `steps` trainer steps, on the clock and of CPU; other words by `also`.

    The clock starts when the request comes and stops when the last step ends: generation, grading, every forward and
    backward pass, the optimizer and the trainer's own bookkeeping are inside.
    """

    def __init__(
        self, channel: Channel, steps: int, also: Mapping[str, Callable[[], dict[str, Any]]] | None = None
    ) -> None:
        self._channel, self._steps, self._also = channel, steps, also or {}
        self._left, self._start, self._cpu = 0, 0.0, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._serve()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._left -= 1
        if self._left == 0:
            self._channel.say(seconds=now() - self._start, cpu=process_time() - self._cpu)
            self._serve()

    def _serve(self) -> None:
        while request := self._channel.hear():
            if request == "round":
                self._left, self._start, self._cpu = self._steps, now(), process_time()
                return
            self._channel.say(**self._also[request]())
        raise Over


class Reach(TrainerCallback):  # type: ignore[misc]
    """Trains until `validate` returns at least `target`, or `cap` seconds are used up; then raises Over.

    `every` trainer steps come between validations. The clock stands still while validating. `curve` has one
    (steps, seconds, reward) for each validation, the first before training.
    """

    def __init__(self, validate: Callable[[], float], every: int, target: float, cap: float) -> None:
        self._validate, self._every, self._target, self._cap = validate, every, target, cap
        self._steps, self._used, self._start = 0, 0.0, 0.0
        self.curve: list[tuple[int, float, float]] = []

    @property
    def reached(self) -> bool:
        return bool(self.curve) and self.curve[-1][2] >= self._target

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._look()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._steps += 1
        if self._steps % self._every == 0:
            self._used += now() - self._start
            self._look()

    def _look(self) -> None:
        self.curve.append((self._steps, self._used, self._validate()))
        if self.reached or self._used >= self._cap:
            raise Over
        self._start = now()
