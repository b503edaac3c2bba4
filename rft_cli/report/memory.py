"""The plan of a job's memory as data: what `rft validate --plan` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = "rft.plan/1"


@dataclass(frozen=True, slots=True)
class Phase:
    """Bytes that one device holds in a phase, by what holds them."""

    name: str
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class Remedy:
    """Settings with which a job fits that does not fit as it is; `sharded`: FSDP, which shares the weights too."""

    settings: Mapping[str, Any]
    sharded: bool
    peak: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """`memory`, `usable`: bytes of one device, and those of them that tensors get; `count`: how many devices.

    `settings`: those that decide, as configured; `notes`: what was assumed. `remedy`: None where the job fits, and
    where nothing would help.
    """

    model: str
    parameters: int
    trained: int
    device: str
    memory: int
    usable: int
    count: int
    phases: Sequence[Phase]
    settings: Mapping[str, Any]
    remedy: Remedy | None
    notes: Sequence[str] = ()

    @property
    def peak(self) -> int:
        return max(phase.total for phase in self.phases)

    @property
    def fits(self) -> bool:
        return self.peak <= self.usable

    def verdict(self) -> str:
        """One sentence: whether it fits, or with which settings it would."""
        peak, of = f"{self.peak / 1e9:.1f} GB", f"{self.usable / 1e9:.1f} of {self.memory / 1e9:.0f} GB"
        if self.fits:
            return f"It fits: {peak} at the peak; tensors can have {of}."
        short = f"It does not fit: {peak} at the peak; tensors can have {of}"
        if self.remedy is None:
            return (
                f"{short}. No setting that is tried here makes it fit: take a smaller model or more memory."
            )
        flags = [f"--set {key}={_written(value)}" for key, value in self.remedy.settings.items()]
        if self.remedy.sharded:
            flags.append("and FSDP (configs/accelerate/fsdp2.yaml)")
        return f"{short}. It would with {' '.join(flags)}: {self.remedy.peak / 1e9:.1f} GB."

    def to_json(self) -> dict[str, Any]:
        remedy = self.remedy
        return {
            "schema": SCHEMA,
            "model": self.model,
            "parameters": self.parameters,
            "trained_parameters": self.trained,
            "device": self.device,
            "devices": self.count,
            "memory_bytes": self.memory,
            "usable_bytes": self.usable,
            "peak_bytes": self.peak,
            "fits": self.fits,
            "phases": [{"name": p.name, "bytes": p.total, "parts": dict(p.parts)} for p in self.phases],
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "remedy": None
            if remedy is None
            else {"settings": dict(remedy.settings), "fsdp": remedy.sharded, "peak_bytes": remedy.peak},
        }


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
