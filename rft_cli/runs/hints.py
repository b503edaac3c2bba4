"""Commands that messages tell people to type: a path with a space in it is quoted, so that they can be copied."""

from __future__ import annotations

import shlex
from pathlib import Path


def resume_command(run: Path) -> str:
    """What goes on with this run."""
    return f"rft train --resume {quoted(run)}"


def quoted(path: Path | str) -> str:
    """The path as a shell takes it."""
    return shlex.quote(str(path))
