"""Whether a run that goes on is to be longer than it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rft_cli.config import RunConfig
from rft_cli.config.flat import flat
from rft_cli.config.suggest import counted
from rft_cli.errors import UsageError
from rft_cli.job import processes, read_files
from rft_cli.runs import Run

if TYPE_CHECKING:
    from rft_cli.training.schedule import Batches

EPOCHS, STEPS = "optim.n_epochs", "optim.max_steps"
LENGTH = (EPOCHS, STEPS)
"""The settings that say how long a job is: raising them makes no other job of it."""


def is_longer(began: Mapping[str, Any], config: RunConfig, run: Run) -> bool:
    """Whether `config` trains longer than the settings that the run began with; UsageError where it is shorter."""
    from rft_cli.training.schedule import Batches, length

    then, now = began, flat(config)
    changed = [key for key in LENGTH if then[key] != now[key]]
    if not changed:
        return False
    in_epochs = all(side[STEPS] is None and side[EPOCHS] != "auto" for side in (then, now))
    plan = Batches(1, 1, 1, 1) if in_epochs else batches_of(config, processes(config))
    wanted = _wanted(config) if "auto" in (then[EPOCHS], now[EPOCHS]) else 0
    before, after = (
        length(side[EPOCHS], side[STEPS], plan, wanted).value * plan.steps for side in (then, now)
    )
    if after < before:
        what = counted(before, "epoch" if in_epochs else "step")
        given = ", ".join(f"{key} {'empty' if now[key] is None else now[key]}" for key in changed)
        raise UsageError(
            f"{run.path} trains for {what}: it can't be made shorter ({given})",
            f"give more than {before}, leave it out, or start a new run",
        )
    return after > before


def _wanted(config: RunConfig) -> int:
    """What `auto` means for this model."""
    from rft_cli.training.auto import completions_wanted
    from rft_cli.training.build import parameters_of

    return completions_wanted(parameters_of(config.model))


def batches_of(config: RunConfig, world_size: int) -> Batches:
    """The rollout batches that so many processes make of the training rows."""
    from rft_cli.training import auto
    from rft_cli.training.schedule import Batches

    train = read_files(config).data.get("train")
    rows = len(train.examples) if train else world_size
    prompts = auto.prompts_per_batch(config.rollout.prompts_per_batch, rows, world_size).value
    group = config.rollout.group_size
    steps = auto.steps_a_pass(config.ppo.minibatches, prompts * group, world_size)
    return Batches(rows, prompts, group, steps * config.ppo.passes)
