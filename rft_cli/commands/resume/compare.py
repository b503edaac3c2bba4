"""How a run goes on: its own settings under those given now, and what differs from what it began with.

Nothing here changes a file: `ready.py` does, once everything is known to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rft_cli.commands.longer import LENGTH, is_longer
from rft_cli.commands.models import resolve_run
from rft_cli.commands.moved import found_again, hash_of_rows
from rft_cli.commands.request import Settings
from rft_cli.commands.unchangeable import UNCHANGEABLE, can_split
from rft_cli.config import RunConfig
from rft_cli.config.dump import with_absolute_paths
from rft_cli.config.flat import flat, with_settings
from rft_cli.config.hub_names import hub_name
from rft_cli.config.keys import all_keys
from rft_cli.config.layers import Setting
from rft_cli.config.load import LoadedConfig, load_config, load_own
from rft_cli.config.paths import named
from rft_cli.config.schema import GraderConfig, ModelConfig, audit_setting
from rft_cli.config.scorers import split_target, weighted
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.source import read_sources, sha256_of_all
from rft_cli.job import CONTENT, PLACE, processes, scorer_modules
from rft_cli.runs import Run
from rft_cli.runs.identity import base_identity

REVISION = "model.revision"


@dataclass(frozen=True, slots=True)
class Continued:
    """A run that is to go on: run.json as it was read, the settings from now on, and whether they train it longer.

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


def continued(ref: str, settings: Settings) -> Continued:
    """The run that `ref` means, under the settings given now: they may repeat what the run has.

    Raises UsageError where there is no such run, its files can't be read, or it would be made shorter.
    """
    run = Run.open(ref, settings.overrides.get("output_dir") or "runs")
    info = run.info
    own = load_own(run.path)
    below = {key: Setting(value, own.origins.get(key, "")) for key, value in flat(own.config).items()}
    given = {key: value for key, value in settings.overrides.items() if key not in PLACE}
    loaded = load_config(
        settings.file,
        overrides=given,
        sets=settings.sets,
        env={},
        openai_job=settings.openai_job,
        below=below,
    )
    path = resolve_run(loaded.config.model.path, loaded.config.output_dir)
    config = with_absolute_paths(with_settings(loaded.config, {"model.path": path}))
    config = with_settings(config, _same_rows(config, own.config, info))
    inherited = loaded.origins.get(REVISION) == own.origins.get(REVISION)
    revision = _revision(config.model, own.config.model, info, inherited)
    config = with_settings(config, {REVISION: revision})
    moved = found_again(config, began_with(info, own.config), run, info)
    config = with_settings(moved.config, {key: getattr(own.config, key) for key in PLACE})
    longer = is_longer(began_with(info, own.config), config, run)
    notes = (*own.removed, *loaded.removed, *moved.notes)
    return Continued(run, info, own.config, replace(loaded, config=config, notes=[]), longer, notes)


def _same_rows(config: RunConfig, own: RunConfig, info: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for when the run began means the rows that it was then: data sets of the hub at their commits."""
    asked, now, then = info.get("asked_data") or {}, flat(config), flat(own)
    return {key: then[key] for key in asked if asked[key] == now.get(key)}


def _revision(model: ModelConfig, own: ModelConfig, info: Mapping[str, Any], inherited: bool) -> str | None:
    """What was asked for when the run began means the commit that it was then; another model is not at that commit."""
    if model.path != own.path:
        return None if inherited else model.revision
    return own.revision if model.revision in (None, info.get("asked_revision")) else model.revision


def began_with(info: Mapping[str, Any], own: RunConfig) -> dict[str, Any]:
    """The settings that the run began with: as run.json keeps them, and those that it does not know."""
    kept = info.get("settings")
    found = {**flat(own), **kept} if isinstance(kept, dict) else flat(own)
    return {**found, "grader.audit": audit_setting(found["grader.audit"])}


def changes(plan: Continued) -> dict[str, list[Any]]:
    """Every setting, file and model that is not what the run began with: key -> [then, now]; content as a hash.

    Raises UsageErrors naming what is not there any more.
    """
    config, info = plan.loaded.config, plan.info
    began, now = began_with(info, plan.own), flat(config)
    found = {
        key: [began.get(key), now.get(key)]
        for key in all_keys()
        if key not in (*PLACE, *LENGTH, "grader.folder") and began.get(key) != now.get(key)
    }
    limit = GraderConfig(timeout_s=began["grader.timeout_s"], sandbox=began["grader.sandbox"]).grade_limit_s
    if limit == config.grader.grade_limit_s:  # auto and the seconds that it stands for are the same
        found.pop("grader.timeout_s", None)
    _compare_files(found, plan, began, now)
    _compare_base(found, plan)
    then, here = info.get("num_processes"), processes(config)
    found.pop("num_processes", None)
    if then is not None and then != here:
        found["num_processes"] = [then, here]
    return found


def refuse(plan: Continued, changed: Mapping[str, list[Any]], force: bool) -> None:
    """Raise UsageError naming all that changed; with `force` only what no checkpoint can be continued with."""
    never = {key: changed[key] for key in changed if key in UNCHANGEABLE}
    if "num_processes" in never and can_split(plan.run, plan.loaded.config, *never["num_processes"]):
        del never["num_processes"]
    if plan.loaded.config.model.path == began_with(plan.info, plan.own)["model.path"]:
        never.pop("model.path", None)  # another revision of the same model is of the same kind
    if force and never:
        lines = [f"  {key}: {_said(plan, key, *pair)} ({UNCHANGEABLE[key]})" for key, pair in never.items()]
        raise UsageError(
            f"{plan.run.path} can't go on, not with --force either: a checkpoint can't be continued with another "
            f"{' or '.join(never)}:\n" + "\n".join(lines),
            f"undo that, or start a new run with `rft create`; `--model {plan.run.path}` begins with what this one has "
            "learned",
        )
    if changed and not force:
        lines = [f"  {key}: {_said(plan, key, *pair)}" for key, pair in changed.items()]
        raise UsageError(
            f"{plan.run.path} can't go on as the same job, this has changed since it began:\n"
            + "\n".join(lines),
            f"undo the changes, or start a new run with `rft create`; --force can't change {' or '.join(never)}"
            if never
            else "undo the changes, start a new run with `rft create`, or go on all the same with --force "
            "(run.json then says so)",
        )


def _said(plan: Continued, key: str, then: Any, now: Any) -> str:
    value = flat(plan.loaded.config).get(key)
    if key in CONTENT and value is not None and isinstance(then, str) and isinstance(now, str):
        before = began_with(plan.info, plan.own)[key]
        return f"{_one(value)} has changed" if before in (None, value) else _renamed(before, value)
    if key.startswith("grader.path/"):
        what = "is gone" if now is None else "is new" if then is None else "has changed"
        return f"the scorer imports it, and it {what}"
    return f"{_shown(then)} -> {_shown(now)}"


def _one(paths: str | list[str]) -> str:
    return " + ".join(paths) if isinstance(paths, list) else paths


def _renamed(before: str | list[str], now: str | list[str]) -> str:
    """`scorer.py -> other.py`; with folders where the names alone are the same. Names on the hub are whole."""
    short = [_one([_without_folder(name) for name in named(each)]) for each in (before, now)]
    return " -> ".join(short if short[0] != short[1] else (_one(before), _one(now)))


def _without_folder(name: str) -> str:
    return name if hub_name(name) is not None else Path(name).name


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _compare_files(
    found: dict[str, list[Any]], plan: Continued, began: dict[str, Any], now: dict[str, Any]
) -> None:
    """The same bytes are the same file, wherever they lie; a finished run's are looked at only where they moved."""
    hashes = plan.info.get("hashes") or {}
    problems = []
    for key, name in CONTENT.items():
        if now.get(key) is None or began.get(key) is None or (plan.over and key not in found):
            continue
        try:
            here = _hash(key, plan.loaded.config)
        except UsageError as error:
            problems.append(
                UsageError(f"{key}: {error.message}", f"{_again(key)}; {error.fix or ''}".rstrip("; "))
            )
            continue
        same_function = key != "grader.path" or _functions(now[key]) == _functions(began[key])
        if hashes.get(name) == here and same_function:
            found.pop(key, None)
        elif hashes.get(name) != here:
            found[key] = [hashes.get(name), here]
    if problems:
        raise UsageErrors(problems)
    then = plan.info.get("grader_modules")
    if isinstance(then, dict) and "grader.path" not in found and not plan.over:
        modules = scorer_modules(plan.loaded.config)
        for name in sorted(then.keys() | modules.keys()):
            if then.get(name) != modules.get(name):
                found[f"grader.path/{name}"] = [then.get(name), modules.get(name)]


def _functions(path: str | list[str]) -> list[tuple[str | None, float]]:
    """The function and the weight of each scorer."""
    each = [weighted(text) for text in ([path] if isinstance(path, str) else path)]
    return [(split_target(one.path)[1], one.weight) for one in each]


def _hash(key: str, config: RunConfig) -> str:
    if key == "grader.path":
        return sha256_of_all(read_sources(config.grader))
    try:
        return hash_of_rows(named(getattr(config.data, key.partition(".")[2])))
    except OSError as error:
        raise UsageError(f"{error.filename} can't be read: {error.strerror}") from None


def _again(key: str) -> str:
    flags = {
        "data.train": "-t",
        "data.validation": "-v",
        "data.test": "--test",
        "grader.path": "--reward-model",
    }
    return f"say where it lies now: {flags[key]} FILE (known by its SHA-256)"


def _compare_base(found: dict[str, list[Any]], plan: Continued) -> None:
    model, then = plan.loaded.config.model, plan.info.get("base")
    if then is None or (plan.over and "model.path" not in found and REVISION not in found):
        return
    now = base_identity(model.path, model.revision)
    if now == then:
        found.pop("model.path", None)
        found.pop(REVISION, None)
    elif now is not None:
        found["model.path"] = [then, now]
