"""The best checkpoint: `best_step` in run.json, and `best`, a relative link to it for people."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from rft_cli.errors import UsageError
from rft_cli.runs.files import fsync_path
from rft_cli.runs.suggested_commands import resume_command


def point(run: Path, step: int | None) -> None:
    """Point the link at the checkpoint of `step`; None removes it."""
    link, draft = run / "best", run / ".best-new"
    # a copy of a run that followed links
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    if step is None:
        link.unlink(missing_ok=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        draft.symlink_to(Path("checkpoints") / f"step-{step}")
        os.replace(draft, link)
    fsync_path(run)


def find(run: Path, best_step: int) -> Path | None:
    """The best checkpoint's directory, `best_step` of run.json; None: the base model is best.

    Raises UsageError if the directory is missing.
    """
    if not best_step:
        return None
    target = run / "checkpoints" / f"step-{best_step}"
    if not target.is_dir():
        raise UsageError(
            f"{run}: its best checkpoint, {target.name}, is missing",
            f"restore it, or choose the best of the others: {resume_command(run)}",
        )
    return target
