"""Commands in messages, with paths quoted so that they can be copied."""

from __future__ import annotations

import shlex
from pathlib import Path


def resume_command(run: Path) -> str:
    """The command that resumes this run."""
    return f"rft train --resume {quoted(run)}"


def longer(n_epochs: int | str | None, max_steps: int | None, steps: int) -> str:
    """The flags that make a job of these settings, which has made so many steps, twice as long."""
    flags = []
    if isinstance(n_epochs, int):
        flags.append(f"--n-epochs {2 * n_epochs}")
    if max_steps is not None or not flags:
        flags.append(f"--set optim.max_steps={2 * steps}")
    return " ".join(flags)


def quoted(path: Path | str) -> str:
    """The path quoted for a shell."""
    return shlex.quote(str(path))
