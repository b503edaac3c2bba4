"""Commands in messages, with paths quoted so that they can be copied."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def resume_command(run: Path) -> str:
    """The command that resumes this run."""
    return f"rft train --resume {quoted(run)}"


def of_where_it_is(text: str, run: Path, info: Mapping[str, Any]) -> str:
    """The text of a run's record with the path where the run is now, where it was copied or moved since."""
    folder, name = (info.get("settings") or {}).get("output_dir"), str(info.get("name") or "")
    olds = [
        str(info.get("path") or ""),
        os.path.join(folder, name) if isinstance(folder, str) and name else "",
    ]
    for old in filter(None, olds):
        if os.path.realpath(old) != os.path.realpath(run):
            for was, now in {old: str(run), quoted(old): quoted(run)}.items():
                text = re.sub(rf"(?<![\w./-]){re.escape(was)}(?![\w-]|\.\w)", now.replace("\\", r"\\"), text)
    return text


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
