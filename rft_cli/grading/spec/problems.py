"""A problem inside a spec, before the place where it stands is known."""

from __future__ import annotations


class SpecProblem(ValueError):
    """What is wrong with one value of a spec and its fix. pydantic carries it to the loader, which adds the place."""

    def __init__(self, message: str, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
