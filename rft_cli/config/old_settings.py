"""Settings of earlier versions: they are ignored with a note."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Removed:
    """`default`: its last one, which runs wrote out; `instead`: what replaces it."""

    default: Any
    instead: str


REMOVED = {
    "distributed.hang_timeout_s": Removed(
        45.0, "distributed.collective_timeout_s alone limits how long processes wait for one another"
    ),
}
"""By the setting's dotted name."""
