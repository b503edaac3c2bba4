"""The warnings of a job, kept in run.json and printed again with the result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rft_cli.events import Event, Note, OnEvent, Stepped
from rft_cli.runs.run import Run

GUARD = "guard"
"""The tripwire of a guard that fell, which warns at every validation."""


class KeptWarnings:
    """Passes a job's events on and keeps each warning among them in run.json, once, with the step it came at.

    The one place that does: whoever wants to warn emits a `Note`.
    """

    def __init__(self, run: Run, on_event: OnEvent) -> None:
        self._run, self._on_event = run, on_event
        self._step = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self._step = event.step
        if isinstance(event, Note) and event.level == "warning":
            keep(self._run, [entry(event, self._step)])
        self._on_event(event)


def entry(note: Note, step: int = 0) -> dict[str, Any]:
    """What run.json keeps of a warning: `tripwire` is its name where one tripped."""
    found: dict[str, Any] = {"step": step if note.step is None else note.step}
    if note.tripwire is not None:
        found["tripwire"] = note.tripwire
    return {**found, "text": note.text}


def keep(run: Run, entries: Iterable[dict[str, Any]]) -> None:
    """Add those that run.json does not have yet; only a tripwire may warn again at another step."""
    kept = list(run.info.get("warnings") or [])
    known = {_key(found) for found in kept}
    for found in entries:
        if _key(found) not in known:
            known.add(_key(found))
            kept.append(found)
    if len(kept) > len(run.info.get("warnings") or []):
        run.update(warnings=kept)


def texts(run: Run) -> list[str]:
    """The warnings as lines for people, in the order in which they came; of the guard's the first and the newest."""
    kept = list(run.info.get("warnings") or [])
    guards = [place for place, found in enumerate(kept) if found.get("tripwire") == GUARD]
    between = set(guards[1:-1])
    return [
        f"step {found['step']}: {found['text']}" if "tripwire" in found else str(found.get("text"))
        for place, found in enumerate(kept)
        if place not in between
    ]


def _key(found: dict[str, Any]) -> tuple[Any, ...]:
    return (found.get("text"), found["step"] if "tripwire" in found else None)
