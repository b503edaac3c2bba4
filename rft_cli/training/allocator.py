"""Memory that a step frees on a CPU stays with the process for the next step.

glibc gives large blocks back to the system at once, and each page of the next one is cleared again: that took a third
of a step's time with a model of 135 M (docs/benchmarks.md).
"""

from __future__ import annotations

import ctypes
import sys

# mallopt(3)
_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Set glibc's allocator so; elsewhere nothing happens. A GPU's memory has an allocator of its own."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20)):
            mallopt(option, value)
