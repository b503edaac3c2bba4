"""Settings of earlier versions: files and runs that name one still load."""

from __future__ import annotations

from collections.abc import Mapping
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
    "ppo.value_coef": Removed(0.5, "the critic has a backward pass of its own"),
}
"""By the setting's dotted name: it is read without it, and a note says so."""

RENAMED = {"grader.sandbox": "grader.limits"}
"""Old names that still mean the same setting, without a note."""


def with_present_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """These settings, by dotted name, under the names that they have now."""
    return {RENAMED.get(key, key): value for key, value in settings.items()}
