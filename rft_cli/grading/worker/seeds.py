"""In a worker: random numbers that begin anew with each grade, in the generators that the scorer has loaded.

Seeding Python's generator takes 5 µs, more than all else that a grade costs. A scorer that never imports `random`
should not pay it, so the worker forgets its own copy of the module and seeds the one that the scorer loads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_GENERATORS = frozenset({"random", "numpy.random"})
_SPREAD = 2_654_435_761  # odd: seeds that are close to each other give numbers that are not


class Seeds:
    """The seeds of one worker. Make it before the scorer is loaded: it sees what is imported from then on."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._current = 0
        self._seeders: list[Callable[[int], None]] = []
        sys.modules.pop("random", None)  # who holds it already is not the scorer
        sys.meta_path.insert(0, self)

    def begin(self, place: int) -> None:
        """The grade at `place` begins: the same place of the same job gets the same numbers."""
        self._current = (self._seed * _SPREAD + place) & 0xFFFF_FFFF
        for seed in self._seeders:
            seed(self._current)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by `import`: None leaves the module to the other finders."""
        if name not in _GENERATORS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_seed(module: ModuleType) -> None:
                load(module)
                module.seed(self._current)
                self._seeders.append(module.seed)

            setattr(spec.loader, "exec_module", load_and_seed)  # noqa: B010  (an instance's, not the class's)
        return spec
