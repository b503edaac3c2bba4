"""What a tripped wire does: a warning and, where asked for, the end of the job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rft_cli.errors import RunFailed
from rft_cli.events import Note, OnEvent
from rft_cli.runs import Run
from rft_cli.training.distributed.group import from_main
from rft_cli.training.hooks.divergence import how_to_go_on
from rft_cli.training.hooks.tripwires import Figures, Tripwires


class Alarms:
    """Shows each rollout batch to the tripwires; every process calls it alike, process 0 tells and decides."""

    def __init__(self, wires: Tripwires, action: str, run: Run, on_event: OnEvent, rank: int) -> None:
        self._wires, self._action, self._run, self._on_event = wires, action, run, on_event
        self._main = rank == 0
        self._ending = ""

    def begin(self, step: int) -> None:
        """A job begins or goes on behind `step`: later warnings will be made again."""
        if self._main:
            kept = [w for w in self._run.info.get("warnings") or [] if w["step"] <= step]
            self._run.update(warnings=kept)

    def observe(self, step: int, metrics: Figures) -> bool:
        """Take in a rollout batch's line of metrics; whether the job is to end behind a checkpoint of this step."""
        if self._action == "stop":  # figures may differ by a rounding; the decision may not
            self._ending = from_main(lambda: self._tell(step, metrics))
        elif self._action == "warn" and self._main:
            self._tell(step, metrics)
        return bool(self._ending)

    def _tell(self, step: int, metrics: Figures) -> str:
        tripped = self._wires.observe(metrics)
        for t in tripped:
            self._on_event(Note(t.text, "warning", step, t.name))
        return "; ".join(t.text for t in tripped)

    def check(self) -> None:
        """With `action: stop`, raise RunFailed where a wire tripped; its checkpoint is committed."""
        if self._ending:
            raise RunFailed(f"a tripwire ended the job: {self._ending}", how_to_go_on(self._run))

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, as plain JSON."""
        return self._wires.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._wires.load(state)
