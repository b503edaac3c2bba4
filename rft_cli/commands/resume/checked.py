"""Whether a run can be resumed as its files and settings are now; changes nothing on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rft_cli.commands.resume.compare import changes, refuse
from rft_cli.commands.resume.plan import Resumed
from rft_cli.config.launcher import sharding_in
from rft_cli.errors import UsageError
from rft_cli.runs.sharded_files import check_same_sharding
from rft_cli.runs.suggested_commands import longer, resume_command


def check_resumable(plan: Resumed, force: bool) -> dict[str, list[Any]]:
    """What has changed since the run began: key -> [then, now].

    Raises UsageError where another process writes the run, or it can't be resumed as it is now (`force`: although
    something has changed).
    """
    plan.run.check_free()
    check_same_sharding(plan.run, sharding_in(os.environ))
    changed = changes(plan)
    refuse(plan, changed, force)
    return changed


def finished(plan: Resumed) -> UsageError:
    """The error for a run that has nothing left to train."""
    run, optim = plan.run, plan.loaded.config.optim
    more = longer(optim.n_epochs, optim.max_steps, max(run.checkpoints(), default=1))
    return UsageError(
        f"{run.path} is finished: {_gained(plan.info.get('result') or {})}its result is in its run.json",
        f"train it longer: {resume_command(run.path)} {more}; or start a new run",
    )


def _gained(result: Mapping[str, Any]) -> str:
    split = "test" if "test" in result else "validation"
    try:
        before, after = (float(result[split][side]["mean"]) for side in ("before", "after"))
    except (KeyError, TypeError, ValueError):
        return ""
    return f"mean reward {before:.4f} -> {after:.4f} on the {split} rows; "
