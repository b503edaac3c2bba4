"""What a training process is doing, read off the stack of its main thread: nothing in training has to say it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rft_cli.pulse import PULSE, Pulse

LOADING = "loading"
ELSE = "working"

PHASES: tuple[tuple[str, str, str], ...] = (
    ("rft_cli/runs/", "", "saving"),
    ("rft_cli/training/hooks/saving.py", "", "saving"),
    ("rft_cli/grading/", "", "grading"),
    ("rft_cli/training/reward_model.py", "", "grading"),
    ("rft_cli/training/rollouts/rewards.py", "__call__", "grading"),
    ("rft_cli/training/rollouts/validation.py", "run", "validating"),
    ("", "_generate_single_turn", "sampling"),
    ("", "_generate_and_score_completions", "scoring"),
    ("", "training_step", "updating"),
    ("rft_cli/training/main.py", "_load", LOADING),
    ("rft_cli/training/main.py", "check", LOADING),
    ("rft_cli/training/build.py", "build_trainer", LOADING),
)
"""Part of a file's path, name of a function ("": any), and the phase that it is; the innermost frame decides."""

WITHOUT_BEATS = frozenset({LOADING, "saving", ELSE})
"""Phases of work inside libraries that can't beat: a main thread that moved counts instead."""

_COLLECTIVES = ("torch/distributed/", "torch/nn/parallel/distributed.py")
"""The second: DDP, which sends buffers around before a forward pass."""
_BACKWARD = "_engine_run_backward"  # DDP waits for the others in there, where no Python frame shows it
_PACKAGE = str(Path(__file__).resolve().parents[2]) + "/"
_MOVED_S = 0.001
"""CPU seconds between two looks that tell work from a sleep that is broken off now and then."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """One look at the main thread.

    `where`: `file:line in function`, of our own code if it is in any; `waits`: it is in a collective, as far as its
    stack says, and so may only wait for others; `beats`: see `Pulse`; `seen`: phases that it was in before.
    """

    beats: int
    phase: str
    where: str
    waits: bool
    seen: tuple[str, ...]


class Examiner:
    """Looks at the main thread from another one."""

    def __init__(self, pulse: Pulse = PULSE) -> None:
        self._pulse = pulse
        self._thread = threading.main_thread().ident or 0
        self._moves = 0
        self._place: object = None
        self._used = 0.0
        self._phase = ELSE
        self._seen: set[str] = set()

    def look(self) -> Vitals:
        """What it does now."""
        frames = list(_stack(sys._current_frames().get(self._thread)))
        phase = next((found for f in frames if (found := _phase(f))), ELSE)
        waits = bool(frames) and _waits(frames[0])
        place, used = tuple((id(f), f.f_lasti) for f in frames), self._cpu_seconds()
        if phase in WITHOUT_BEATS and not waits and (place != self._place or used - self._used > _MOVED_S):
            self._moves += 1
        self._place, self._used = place, used
        if phase != self._phase:
            self._seen.add(self._phase)
        self._phase = phase
        return Vitals(
            self._pulse.beats + self._moves,
            phase,
            _where(frames),
            waits,
            tuple(sorted(self._seen)),
        )

    def _cpu_seconds(self) -> float:
        """CPU time of the main thread; a loop is often seen at the same place, where it lets others have a turn."""
        if not hasattr(time, "pthread_getcpuclockid"):  # macOS
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread))


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _phase(frame: FrameType) -> str | None:
    file, function = frame.f_code.co_filename, frame.f_code.co_name
    return next((p for part, name, p in PHASES if part in file and name in ("", function)), None)


def _waits(innermost: FrameType) -> bool:
    code = innermost.f_code
    return code.co_name == _BACKWARD or any(part in code.co_filename for part in _COLLECTIVES)


def _where(frames: list[FrameType]) -> str:
    own = next((f for f in frames if f.f_code.co_filename.startswith(_PACKAGE)), None)
    frame = own or (frames[0] if frames else None)
    if frame is None:
        return "no Python code"
    file = frame.f_code.co_filename.removeprefix(_PACKAGE.removesuffix("rft_cli/"))
    return f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
