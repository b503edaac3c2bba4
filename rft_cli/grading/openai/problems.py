"""A problem inside a spec, before its place in the file is known."""

from __future__ import annotations

from collections.abc import Sequence


class SpecProblem(ValueError):
    """A problem of one value of a spec, and its fix. pydantic passes it on to the loader, which adds the place.

    `more` are further problems of the same value.
    """

    def __init__(self, message: str, fix: str | None = None, more: Sequence[SpecProblem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.more = tuple(more)
