"""The errors a person can cause or meet, each with the exit code it ends in.

Every one carries what went wrong and what to do. They are raised once, at the boundary that knows
the place (file, line, row), and turned into a message and an exit code in `cli.py` alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_WHERE = re.compile(
    r"(?:[^\s:]+|[^\n:]*\.\w+):\d+(?::\d+)?(?=: )"  # FILE:LINE, FILE:LINE:COLUMN
    r"|--[\w-]+(?: [^\s:]+)?(?=: )"  # --set KEY, --grader-env NAME
    r"|[^\s:]*[./_][^\s:]*(?=: )"  # a file, a setting, a variable
)


class RftError(Exception):
    """A problem for people: `message` says what and where, `fix` what to do about it.

    `where` is the place that the message begins with: a file with line and column, a setting, a flag or a variable.
    `setting` is the setting whose value, or whose file, is to blame, where one is known.
    `in_document`: the printed JSON document has it already.
    """

    exit_code = 3

    def __init__(self, message: str, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.setting: str | None = None
        self.in_document = False
        found = _WHERE.match(message)
        self.where = None if found is None else found[0]

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints under `error`; several problems are under `problems`, the first one also above them."""
        found = [problem._said() for problem in self.problems]
        first = found[0] if found else self._said()
        return {**first, "exit_code": self.exit_code, **({"problems": found} if len(found) > 1 else {})}

    def _said(self) -> dict[str, Any]:
        return {"message": self.message, "fix": self.fix, "where": self.where, "setting": self.setting}

    @property
    def problems(self) -> tuple[RftError, ...]:
        """Itself, or the several that it holds."""
        return (self,)


class UsageError(RftError):
    """Wrong usage, configuration, data or grader file: found before any model loads."""

    exit_code = 2

    @property
    def problems(self) -> tuple[UsageError, ...]:
        return (self,)


class UsageErrors(UsageError):
    """Several problems of one file or one preflight, reported together."""

    def __init__(self, problems: Sequence[UsageError]) -> None:
        super().__init__("\n".join(p.message for p in problems))
        self._problems = tuple(problems)

    @property
    def problems(self) -> tuple[UsageError, ...]:
        return self._problems


class RunFailed(RftError):
    """The job failed while running: grader failure rate, divergence, out of memory."""

    exit_code = 3


class OutOfMemory(RunFailed):
    """The device's memory ran out: a new run without any work is not kept."""


class GateNotMet(RftError):
    """The job ran to its end, and a threshold the caller set was not met."""

    exit_code = 1


class Interrupted(RftError):
    """A signal ended the job; `signal_number` gives the exit code 128 + n."""

    def __init__(self, signal_number: int, message: str, fix: str | None = None) -> None:
        super().__init__(message, fix)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
