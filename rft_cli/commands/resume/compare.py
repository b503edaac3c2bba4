"""What differs between a run as it began and as it would be resumed, and which of it can't be resumed with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rft_cli.commands.resume.locate import hash_of_rows
from rft_cli.commands.resume.plan import LENGTH, REVISION, Resumed, began_with, steps_an_epoch
from rft_cli.config import RunConfig
from rft_cli.config.flat import flat
from rft_cli.config.hub_names import hub_name
from rft_cli.config.keys import all_keys
from rft_cli.config.launcher import sharding_in
from rft_cli.config.paths import GRADER_KEYS, named
from rft_cli.config.schema import GraderConfig
from rft_cli.config.scorers import split_target, weighted
from rft_cli.config.training_sections import VllmConfig
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.source import read_source, read_sources, sha256_of_all
from rft_cli.job import CONTENT, PLACE, processes, scorer_modules
from rft_cli.runs import Run
from rft_cli.runs.model_hash import base_identity

_CONTENT = "it decides which weights and optimizers a checkpoint holds"
_BASE = "a checkpoint is what became of that model, and KL is measured to it"
_ADAPTER = "it shapes the adapter whose weights a checkpoint holds"
_BATCH = "it decides how many optimizer steps a rollout batch has or what is in it, and a step is a place in the rows"
_ROWS = "it decides how many rows a step has, and a step is a place in the rows"
_SPLIT = "a checkpoint has each process's part of the weights, or a rollout batch would have another number of steps"

UNCHANGEABLE = {
    "algorithm": _CONTENT,
    "model.path": _BASE,
    "lora.enabled": _CONTENT,
    "lora.quantize": _BASE,
    "lora.r": _ADAPTER,
    "lora.alpha": _ADAPTER,
    "lora.target_modules": _ADAPTER,
    "rollout.group_size": _BATCH,
    "rollout.prompts_per_batch": _BATCH,
    "ppo.passes": _BATCH,
    "ppo.minibatches": _BATCH,
    "ppo.critic": _CONTENT,
    "sft.batch_size": _ROWS,
    "num_processes": _SPLIT,
}
"""Settings that no checkpoint can be resumed with another value of, and why.

num_processes only if `_can_split` says no, and the model except for another revision of it.
"""
FREE = (
    *("grader.folder", "report_to", "rollout.endpoint"),
    *(f"rollout.vllm.{name}" for name in VllmConfig.model_fields),
)
"""Settings that may change without being named: they change nothing that is trained."""
_FLAGS = {"data.train": "-t", "data.validation": "-v", "data.test": "--test", "grader.path": "--reward-model",
          "grader.guard": "--guard"}  # fmt: skip


def changes(plan: Resumed) -> dict[str, list[Any]]:
    """Every setting, file and model that is not what the run began with: key -> [then, now]; files as hashes.

    Raises UsageErrors naming the files that are missing.
    """
    config, info = plan.loaded.config, plan.info
    began, now = began_with(info, plan.own), flat(config)
    found = {
        key: [began.get(key), now.get(key)]
        for key in all_keys()
        if key not in (*PLACE, *LENGTH, *FREE) and began.get(key) != now.get(key)
    }
    limit = GraderConfig(timeout_s=began["grader.timeout_s"], limits=began["grader.limits"]).grade_limit_s
    # auto and the seconds it stands for are the same
    if limit == config.grader.grade_limit_s:
        found.pop("grader.timeout_s", None)
    _compare_files(found, plan, began, now)
    _compare_base(found, plan)
    then, here = info.get("num_processes"), processes(config)
    found.pop("num_processes", None)
    if then is not None and then != here:
        found["num_processes"] = [then, here]
    return found


def refuse(plan: Resumed, changed: Mapping[str, list[Any]], force: bool) -> None:
    """Raise UsageError naming all that changed; with `force` only what no checkpoint can be resumed with."""
    path = plan.run.path
    never = {key: changed[key] for key in changed if key in UNCHANGEABLE}
    if "num_processes" in never and _can_split(plan.run, plan.loaded.config, *never["num_processes"]):
        del never["num_processes"]
    if plan.loaded.config.model.path == began_with(plan.info, plan.own)["model.path"]:
        # another revision of the same model is of the same kind
        never.pop("model.path", None)
    if force and never:
        lines = [f"  {key}: {_words(plan, key, *pair)} ({UNCHANGEABLE[key]})" for key, pair in never.items()]
        raise UsageError(
            f"{path} can't resume, not with --force either: no checkpoint can be resumed with another "
            f"{' or '.join(never)}:\n" + "\n".join(lines),
            f"undo that, or start a new run with `rft create`; `--model {path}` begins with what this one has learned",
        )
    if changed and not force:
        lines = [f"  {key}: {_words(plan, key, *pair)}" for key, pair in changed.items()]
        raise UsageError(
            f"{path} can't resume: changed since the run started:\n" + "\n".join(lines),
            f"undo the changes, or start a new run with `rft create`; --force can't change {' or '.join(never)}"
            if never
            else "undo the changes, start a new run with `rft create`, or resume anyway with --force "
            "(run.json then says so)",
        )


def _can_split(run: Run, config: RunConfig, then: int, now: int) -> bool:
    """Whether checkpoints of `then` processes mean the same to `now`: whole weights, and as many steps an epoch."""
    if sharding_in(os.environ) is not None:
        return False
    for checkpoint in map(run.checkpoint_path, run.checkpoints()):
        if not (checkpoint / "optimizer.pt").is_file():
            return False
    return steps_an_epoch(config, then) == steps_an_epoch(config, now)


def _words(plan: Resumed, key: str, then: Any, now: Any) -> str:
    """The change of one setting or file, for people."""
    value = flat(plan.loaded.config).get(key)
    if key in CONTENT and value is not None and isinstance(then, str) and isinstance(now, str):
        before = began_with(plan.info, plan.own)[key]
        return f"{_joined(value)} has changed" if before in (None, value) else _renamed(before, value)
    if key.startswith("grader.path/"):
        what = "is gone" if now is None else "is new" if then is None else "has changed"
        return f"the scorer imports it, and it {what}"
    return f"{_shortened(then)} -> {_shortened(now)}"


def _joined(paths: str | list[str]) -> str:
    return " + ".join(named(paths))


def _renamed(before: str | list[str], now: str | list[str]) -> str:
    """`scorer.py -> other.py`; with folders if the names alone are the same. Names on the hub are whole."""
    short = [
        _joined([name if hub_name(name) is not None else Path(name).name for name in named(each)])
        for each in (before, now)
    ]
    return " -> ".join(short if short[0] != short[1] else (_joined(before), _joined(now)))


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _compare_files(
    found: dict[str, list[Any]], plan: Resumed, began: dict[str, Any], now: dict[str, Any]
) -> None:
    """The same bytes are the same file, wherever it is; a finished run's files are read only if they moved."""
    hashes = plan.info.get("hashes") or {}
    problems = []
    for key, name in CONTENT.items():
        if now.get(key) is None or began.get(key) is None or (plan.over and key not in found):
            continue
        try:
            here = _hash(key, plan.loaded.config)
        except UsageError as error:
            fix = f"say where it is now: {_FLAGS[key]} FILE (known by its SHA-256)"
            problems.append(UsageError(f"{key}: {error.message}", f"{fix}; {error.fix or ''}".rstrip("; ")))
            continue
        same_function = key not in GRADER_KEYS or _functions(now[key]) == _functions(began[key])
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
    each = [weighted(text) for text in named(path)]
    return [(split_target(one.path)[1], one.weight) for one in each]


def _hash(key: str, config: RunConfig) -> str:
    if key == "grader.path":
        return sha256_of_all(read_sources(config.grader))
    guard = config.grader.of_guard()
    if key == "grader.guard" and guard is not None:
        return read_source(guard).sha256
    try:
        return hash_of_rows(named(getattr(config.data, key.partition(".")[2])))
    except OSError as error:
        raise UsageError(f"{error.filename} can't be read: {error.strerror}") from None


def _compare_base(found: dict[str, list[Any]], plan: Resumed) -> None:
    model, then = plan.loaded.config.model, plan.info.get("base")
    if then is None or (plan.over and "model.path" not in found and REVISION not in found):
        return
    now = base_identity(model.path, model.revision)
    if now == then:
        found.pop("model.path", None)
        found.pop(REVISION, None)
    elif now is not None:
        found["model.path"] = [then, now]
