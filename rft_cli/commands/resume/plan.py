"""What a resumed run trains: its own settings under those given now, and whether they make it longer.

Nothing here changes a file: `prepare.py` does, once everything is known to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rft_cli.commands.job.model_check import resolve_run
from rft_cli.commands.resume.locate import find_moved_files
from rft_cli.commands.settings import Settings
from rft_cli.config import RunConfig
from rft_cli.config.dump import with_absolute_paths
from rft_cli.config.flat import flat, with_settings
from rft_cli.config.layers import Setting
from rft_cli.config.load import LoadedConfig, load_config, load_own
from rft_cli.config.old_settings import with_present_names
from rft_cli.config.schema import ModelConfig, audit_setting
from rft_cli.config.suggest import counted
from rft_cli.errors import UsageError
from rft_cli.job import PLACE, processes, read_files
from rft_cli.runs import Run

if TYPE_CHECKING:
    from rft_cli.training.job_length import Batches

REVISION = "model.revision"
EPOCHS, STEPS = "optim.n_epochs", "optim.max_steps"
LENGTH = (EPOCHS, STEPS)
"""The settings that a resumed run may raise."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run to be resumed: run.json as it was read, the settings from now on, and whether they train it longer.

    `own` is what config.yaml says. `notes` are for people.
    """

    run: Run
    info: dict[str, Any]
    own: RunConfig
    loaded: LoadedConfig
    longer: bool
    notes: tuple[str, ...]

    @property
    def over(self) -> bool:
        """Whether there is nothing left to train."""
        return bool(self.info["status"] == "finished" and not self.longer)


def plan_resume(ref: str, settings: Settings) -> Resumed:
    """The run that `ref` names, under the settings given now: they may repeat what the run has.

    Raises UsageError if there is no such run, its files can't be read, or it would get shorter.
    """
    run = Run.open(ref, settings.overrides.get("output_dir") or "runs")
    info = run.info
    own = load_own(run.path)
    loaded = load_config(
        settings.file,
        overrides={key: value for key, value in settings.overrides.items() if key not in PLACE},
        sets=settings.sets,
        env={},
        openai_job=settings.openai_job,
        below={key: Setting(value, own.origins.get(key, "")) for key, value in flat(own.config).items()},
    )
    path = resolve_run(loaded.config.model.path, loaded.config.output_dir)
    config = with_absolute_paths(with_settings(loaded.config, {"model.path": path}))
    config = with_settings(config, _same_rows(config, own.config, info))
    inherited = loaded.origins.get(REVISION) == own.origins.get(REVISION)
    revision = _revision(config.model, own.config.model, info, inherited)
    began = began_with(info, own.config)
    moved = find_moved_files(with_settings(config, {REVISION: revision}), began, run, info)
    config = with_settings(moved.config, {key: getattr(own.config, key) for key in PLACE})
    notes = (*own.removed, *loaded.removed, *moved.notes)
    longer = is_longer(began, config, run)
    return Resumed(run, info, own.config, replace(loaded, config=config, notes=[]), longer, notes)


def _same_rows(config: RunConfig, own: RunConfig, info: Mapping[str, Any]) -> dict[str, Any]:
    """Names given at the start mean the same rows: hub data sets at the commits of that time."""
    asked, now, then = info.get("asked_data") or {}, flat(config), flat(own)
    return {key: then[key] for key in asked if asked[key] == now.get(key)}


def _revision(model: ModelConfig, own: ModelConfig, info: Mapping[str, Any], inherited: bool) -> str | None:
    """A branch given at the start means its commit of that time; another model is not at that commit."""
    if model.path != own.path:
        return None if inherited else model.revision
    return own.revision if model.revision in (None, info.get("asked_revision")) else model.revision


def began_with(info: Mapping[str, Any], own: RunConfig) -> dict[str, Any]:
    """The settings that the run began with: those in run.json, and today's defaults for settings it doesn't know."""
    kept = info.get("settings")
    found = {**flat(own), **(with_present_names(kept) if isinstance(kept, dict) else {})}
    return {**found, "grader.audit": audit_setting(found["grader.audit"])}


def is_longer(began: Mapping[str, Any], config: RunConfig, run: Run) -> bool:
    """Whether `config` trains longer than the settings that the run began with; UsageError if it is shorter."""
    then, now = began, flat(config)
    changed = [key for key in LENGTH if then[key] != now[key]]
    if not changed:
        return False
    in_epochs = all(side[STEPS] is None and side[EPOCHS] != "auto" for side in (then, now))
    before, after = (
        side[EPOCHS] if in_epochs else _steps(config, side[EPOCHS], side[STEPS]) for side in (then, now)
    )
    if after < before:
        what = counted(before, "epoch" if in_epochs else "step")
        given = ", ".join(f"{key} {'empty' if now[key] is None else now[key]}" for key in changed)
        raise UsageError(
            f"{run.path} trains for {what}: it can't be made shorter ({given})",
            f"give more than {before}, leave it out, or start a new run",
        )
    return bool(after > before)


def _steps(config: RunConfig, epochs: int | str, most: int | None) -> int:
    """Optimizer steps of a job with these settings of its length."""
    from rft_cli.training import job_length
    from rft_cli.training.sft import auto_rules

    world_size = processes(config)
    if config.teaches:
        steps = auto_rules.steps_of(config, _rows(config, world_size), world_size)
        return auto_rules.length(epochs, most, steps).value
    plan = _batches(config, world_size)
    wanted = _completions_wanted(config) if epochs == "auto" else 0
    return job_length.length(epochs, most, plan, wanted).value * plan.steps


def steps_an_epoch(config: RunConfig, world_size: int) -> int:
    """Optimizer steps that `world_size` processes make of one pass over the training rows."""
    from rft_cli.training.sft import auto_rules

    if config.teaches:
        return auto_rules.steps_of(config, _rows(config, world_size), world_size).an_epoch
    plan = _batches(config, world_size)
    return plan.an_epoch * plan.steps


def _rows(config: RunConfig, default: int) -> int:
    train = read_files(config).data.get("train")
    return len(train.examples) if train else default


def _completions_wanted(config: RunConfig) -> int:
    """What `n_epochs: auto` aims at for this model."""
    from rft_cli.training.auto import completions_wanted
    from rft_cli.training.build import parameters_of

    return completions_wanted(parameters_of(config.model))


def _batches(config: RunConfig, world_size: int) -> Batches:
    from rft_cli.training import auto
    from rft_cli.training.job_length import Batches

    rows = _rows(config, world_size)
    prompts = auto.prompts_per_batch(config.rollout.prompts_per_batch, rows, world_size).value
    group = config.rollout.group_size
    steps = auto.steps_a_pass(config.ppo.minibatches, prompts * group, world_size)
    return Batches(rows, prompts, group, steps * config.ppo.passes)
