"""The problems of one data file, all counted and the first ones shown."""

from __future__ import annotations

from rft_cli.config.suggest import counted
from rft_cli.errors import UsageError, UsageErrors

MAX_LINE_BYTES = 100_000_000
"""A line must fit into memory several times over; a file without any line end (a device) ends here too."""
SHOWN_PROBLEMS = 20
"""Problems of one file that are shown; the others are counted."""


class Problems:
    """Counts all problems of the file `name` and keeps those of the lowest lines, so that the message stays short."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self._kept: list[tuple[int, UsageError]] = []

    def add(self, problem: UsageError, line: int = 0) -> None:
        """Count `problem`; `line` puts it in order, 0 (the whole file) comes first."""
        self.count += 1
        self._kept.append((line, problem))
        if len(self._kept) >= 2 * SHOWN_PROBLEMS:
            self._kept = self._lowest()

    def merge(self, other: Problems | None) -> None:
        """Add another list of problems of the same file."""
        if other is not None:
            self.count += other.count
            self._kept = [*self._kept, *other._lowest()]

    def raise_any(self) -> None:
        """Raise them as one error; return if there are none."""
        if self.count:
            raise self.error()

    def error(self) -> UsageErrors:
        """The first ones as one error, which says how many more there are."""
        shown = [problem for _, problem in self._lowest()]
        rest = self.count - len(shown)
        more = [UsageError(f"{self.name}: and {counted(rest, 'more problem')}")] if rest else []
        return UsageErrors([*shown, *more])

    def _lowest(self) -> list[tuple[int, UsageError]]:
        return sorted(self._kept, key=lambda kept: kept[0])[:SHOWN_PROBLEMS]
