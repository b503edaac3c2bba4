"""What training reports while it runs: plain events that `console/` draws.

They travel as JSON lines when training runs in child processes, so every field is a JSON value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events; `to_json` names the class so that `from_json` finds it again."""

    def to_json(self) -> dict[str, Any]:
        return {"event": type(self).__name__, **dataclasses.asdict(self)}


@dataclass(frozen=True, slots=True)
class Note(Event):
    """A line for people: a choice made by an `auto` rule, or (level "warning") something to look at.

    Warnings are kept in run.json. `step`: what a warning is about; `tripwire`: the name of the wire that tripped.
    """

    text: str
    level: str = "info"
    step: int | None = None
    tripwire: str | None = None


@dataclass(frozen=True, slots=True)
class Piloted(Event):
    """The base model has answered a few prompts; `pilot` is the content of pilot.json."""

    pilot: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The model is loaded and training is about to begin.

    `figures`: of a resumed job's earlier steps, rewards, or losses under sft.
    """

    model: str
    parameters: int
    trainable_parameters: int
    algorithm: str
    world_size: int
    total_steps: int
    n_epochs: float
    device: str
    figures: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """Completions are sampled or graded: `done` of `total` of `what` (for example "baseline")."""

    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Stepped(Event):
    """One optimizer step: `metrics` is the line that went into metrics.jsonl."""

    step: int
    total_steps: int
    epoch: float
    metrics: Mapping[str, float | None]
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Validated(Event):
    """Validation finished at `step` (0 = the base): mean reward with its interval.

    `guard`: the second grader's mean, the ends of its interval and its rows; None without a guard.
    """

    step: int
    epoch: float
    mean: float
    low: float
    high: float
    n: int
    best: bool
    guard: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """Training is over; `result` is the one in run.json."""

    result: Mapping[str, Any] = field(default_factory=dict)


OnEvent = Callable[[Event], None]

_BY_NAME: dict[str, type[Event]] = {
    c.__name__: c for c in (Note, Piloted, Started, Progress, Stepped, Validated, Finished)
}


def from_json(row: Mapping[str, Any]) -> Event:
    """The event that `to_json` wrote; raises KeyError on an unknown name."""
    values = dict(row)
    return _BY_NAME[values.pop("event")](**values)
