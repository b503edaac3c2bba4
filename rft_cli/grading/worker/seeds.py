"""In a worker: seeds the random number generators that the scorer has loaded, anew for each grade.

Seeding Python's generator takes 5 µs, more than all else that a grade costs: a scorer that never imports `random` does
not pay it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from importlib import import_module

_GENERATORS = ("random", "numpy.random")
_SPREAD = 2_654_435_761  # odd: seeds that are close to each other give numbers that are not
_modules = sys.modules


class Seeds:
    """The seeds of one worker. Make it before the scorer is loaded."""

    def __init__(self, seed: int, source: bytes) -> None:
        self._seed = seed
        self._seeders: dict[str, Callable[[int], None]] = {}
        # Loaded before the first grade, also where `source` imports them inside a function: NumPy loads its own late.
        for name in _GENERATORS:
            if all(part.encode() in source for part in name.split(".")):
                with contextlib.suppress(ImportError):
                    import_module(name)

    def begin(self, place: int) -> None:
        """The grade at `place` begins: the same place of the same job gets the same numbers."""
        seeders = self._seeders
        for name in _GENERATORS:
            if name in _modules and name not in seeders:
                seeders[name] = _modules[name].seed
        for seed in seeders.values():
            seed((self._seed * _SPREAD + place) & 0xFFFF_FFFF)
