"""Memory of this process from the moment its model is loaded: what is resident then, and the peak since.

On a GPU the allocator's own peak; else the resident set that the kernel counts (Linux), whose high-water mark is
reset after loading. Grader processes are not in it.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


def _kernel(field: str) -> int:
    """One field of /proc/self/status, in bytes."""
    line = next(row for row in STATUS.read_text().splitlines() if row.startswith(field + ":"))
    return int(line.split()[1]) * 1024


class Footprint:
    """Made when the model has just been loaded; `read` gives bytes: resident then, and the peak so far."""

    def __init__(self, model: Any) -> None:
        self.parameters = sum(p.numel() for p in model.parameters())
        # Weights may still lie in the file's pages: read them all, so that both sides start from the same.
        for p in model.parameters():
            p.detach().sum()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self.loaded = self.parameters * next(model.parameters()).element_size()
        else:
            RESET.write_text("5")
            self.loaded = _kernel("VmRSS")

    def read(self) -> dict[str, Any]:
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _kernel("VmHWM")
        return {"loaded": self.loaded, "peak": peak}
