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
    then, now = began, flat(config)
    changed = [key for key in LENGTH if then[key] != now[key]]
    if not changed:
        return False
    in_epochs = all(side[STEPS] is None and side[EPOCHS] != "auto" for side in (then, now))
    before, after = (
        (then[EPOCHS], now[EPOCHS])
        if in_epochs
        else (_steps(config, side[EPOCHS], side[STEPS]) for side in (then, now))
    )
    if after < before:
        what = counted(before, "epoch" if in_epochs else "step")
        given = ", ".join(f"{key} {'empty' if now[key] is None else now[key]}" for key in changed)
        raise UsageError(
            f"{run.path} trains for {what}: it can't be made shorter ({given})",
            f"give more than {before}, leave it out, or start a new run",
        )
    return after > before


def _steps(config: RunConfig, epochs: int | str, most: int | None) -> int:
    """Optimizer steps of a job with these settings of its length."""
    from rft_cli.training import schedule
    from rft_cli.training.sft import course

    world_size = processes(config)
    if config.teaches:
        return course.length(
            epochs, most, course.steps_of(config, _rows(config, world_size), world_size)
        ).value
    plan = batches_of(config, world_size)
    return schedule.length(epochs, most, plan, _wanted(config) if epochs == "auto" else 0).value * plan.steps


def steps_an_epoch(config: RunConfig, world_size: int) -> int:
    """Optimizer steps that so many processes make of one pass over the training rows."""
    from rft_cli.training.sft import course

    if config.teaches:
        return course.steps_of(config, _rows(config, world_size), world_size).an_epoch
    plan = batches_of(config, world_size)
    return plan.an_epoch * plan.steps


def _rows(config: RunConfig, default: int) -> int:
    train = read_files(config).data.get("train")
    return len(train.examples) if train else default


def _wanted(config: RunConfig) -> int:
    """What `auto` means for this model."""
    from rft_cli.training.auto import completions_wanted
    from rft_cli.training.build import parameters_of

    return completions_wanted(parameters_of(config.model))


def batches_of(config: RunConfig, world_size: int) -> Batches:
    """The rollout batches that so many processes make of the training rows."""
    from rft_cli.training import auto
    from rft_cli.training.schedule import Batches

    rows = _rows(config, world_size)
    prompts = auto.prompts_per_batch(config.rollout.prompts_per_batch, rows, world_size).value
    group = config.rollout.group_size
    steps = auto.steps_a_pass(config.ppo.minibatches, prompts * group, world_size)
    return Batches(rows, prompts, group, steps * config.ppo.passes)
