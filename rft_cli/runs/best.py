"""`best`: a relative link to the best checkpoint. run.json says the step too: a copy may have lost the link."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from rft_cli.errors import UsageError
from rft_cli.runs.files import fsync_path
from rft_cli.runs.hints import resume_command

_STEP = re.compile(r"step-\d{1,18}")


def point(run: Path, step: int | None) -> None:
    """Make the link name the checkpoint of `step`; None takes the link away."""
    link, draft = run / "best", run / ".best-new"
    if link.is_dir() and not link.is_symlink():  # a copy of a run that followed links
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
    """The best checkpoint's directory; None: the base model is best. `best_step` is what run.json says.

    Raises UsageError where the best checkpoint is not there.
    """
    link = run / "best"
    if link.is_symlink():
        name = Path(os.readlink(link)).name
    elif best_step:
        name = f"step-{best_step}"
    else:
        return None
    target = run / "checkpoints" / name
    if not _STEP.fullmatch(name) or not target.is_dir():
        raise UsageError(
            f"{run}: its best checkpoint, {name}, is not there",
            f"restore it, or choose the best of the others: {resume_command(run)}",
        )
    return target
