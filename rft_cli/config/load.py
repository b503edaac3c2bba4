"""Flags, --set, RFT_* environment, YAML and defaults become one RunConfig; all problems come in one error.

Each layer becomes a flat map from dotted key to Setting, which knows its place in words; the maps are laid
over each other, and the schema validates the result. So a message always names the place of the bad value.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rft_cli.config.checks import check_combinations
from rft_cli.config.keys import Key, all_keys
from rft_cli.config.layers import (
    Layer,
    Setting,
    environment_layer,
    flag_layer,
    laid_over,
    set_layer,
    take_out_removed,
    yaml_layer,
)
from rft_cli.config.openai_job import OpenAIJob, read_job
from rft_cli.config.schema import RunConfig
from rft_cli.config.suggest import counted, did_you_mean, near_file
from rft_cli.config.yaml_tree import MAX_BYTES
from rft_cli.errors import UsageError, UsageErrors

SHOWN_PROBLEMS = 50
"""Problems of settings that are shown; the others are counted."""


@dataclass(frozen=True)
class LoadedConfig:
    """The configuration; for every setting where its value comes from; and notes for people.

    `origins` maps each dotted key to `default`, `FILE:LINE:COLUMN`, a variable's name, `--set KEY` or a flag.
    `removed`: those of the notes that are about settings of earlier versions.
    """

    config: RunConfig
    origins: dict[str, str]
    notes: list[str]
    removed: tuple[str, ...] = ()


def load_own(run: Path) -> LoadedConfig:
    """The configuration in a run's config.yaml, without the environment."""
    return load_config(str(run / "config.yaml"), env={})


def load_config(
    path: str | None,
    *,
    overrides: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    openai_job: str | None = None,
    below: Layer | None = None,
    spared: Collection[str] = (),
) -> LoadedConfig:
    """Build the configuration of a job.

    `path`: a YAML file. `overrides`: dotted key → value from flags; None is a flag that was not given.
    `sets`: the `key=value` texts of --set. `env`: the environment (None: this process's), of which variables
    `RFT_SECTION__KEY` count, for example `RFT_OPTIM__LEARNING_RATE`.
    `openai_job`: a fine-tuning job of OpenAI's, whose settings all others override; the notes list them.
    `below`: settings that everything overrides, those of a run that is resumed.
    `spared`: settings that this command does without: a file of `openai_job`'s for one of them may be missing.
    Paths in the YAML file are relative to its folder. Raises UsageErrors with every problem of every layer.
    """
    problems: list[UsageError] = []
    layers = [
        _file_layer(path, problems) if path is not None else {},
        environment_layer(os.environ if env is None else env, problems),
        set_layer(sets, problems),
        flag_layer(overrides or {}, problems),
    ]
    settings = laid_over(layers)
    removed = take_out_removed(settings)
    job = OpenAIJob({}, []) if openai_job is None else read_job(openai_job, settings.keys(), problems, spared)
    settings = laid_over([below or {}, settings, job.layer])
    good = _without_bad(settings, problems)
    config = RunConfig.model_validate(_nested(good), strict=True)
    combined = check_combinations(config, _chosen(good, path))
    for conflict in combined.conflicts:
        # A conflict that rests on a value already refused would only repeat that problem in other words.
        if not any(key in settings and key not in good for key in conflict.keys):
            blamed = next((key for key in conflict.keys if key in good), conflict.keys[0])
            place = good[blamed].place(blamed) if blamed in good else blamed
            problems.append(_about(blamed, UsageError(f"{place}: {conflict.message}", conflict.fix)))
    origins = {key: good[key].origin if key in good else "default" for key in all_keys()}
    if problems:
        problems.sort(key=lambda problem: _position(problem, path or openai_job))
        raise UsageErrors(_first(problems))
    return LoadedConfig(config, origins, [*removed, *job.notes, *combined.notes], tuple(removed))


def _chosen(settings: Layer, path: str | None) -> set[str]:
    """Keys of the settings that somebody chose: neither written-out defaults nor a run's own config.yaml."""
    of_a_run = path is not None and (Path(path).parent / "run.json").is_file()
    return {
        key
        for key, setting in settings.items()
        if setting.value != all_keys()[key].default
        and not (of_a_run and setting.origin.startswith(f"{path}:"))
    }


def _first(problems: list[UsageError]) -> list[UsageError]:
    """The first problems, and how many more there are."""
    rest = len(problems) - SHOWN_PROBLEMS
    if rest <= 0:
        return problems
    more = UsageError(f"and {counted(rest, 'more problem')} in the settings")
    return [*problems[:SHOWN_PROBLEMS], more]


def _file_layer(path: str, problems: list[UsageError]) -> Layer:
    file = Path(path)
    try:
        if file.is_dir():
            problems.append(UsageError(f"{path}: is a directory", "give the YAML file in it"))
            return {}
        with file.open("rb") as stream:
            # one more shows that it is too large
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        problems.append(UsageError(f"{path}: no such file", near_file(file)))
        return {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problems.append(UsageError(f"{path}: can't be read: {reason}"))
        return {}
    return yaml_layer(content, path, problems)


def _position(problem: UsageError, path: str | None) -> tuple[int, int]:
    """Sorts the file's problems by place, then those of the other layers as they came."""
    if path is None or not problem.message.startswith(f"{path}:"):
        return (sys.maxsize, 0)
    place = re.match(r":(\d+):(\d+):", problem.message[len(path) :])
    return (int(place[1]), int(place[2])) if place else (0, 0)


def _without_bad(settings: Layer, problems: list[UsageError]) -> Layer:
    """The settings that are valid one by one; the others go to `problems`."""
    good = {}
    for key, setting in settings.items():
        if _is_valid(key, setting.value):
            good[key] = setting
        else:
            problems.append(_about(key, _bad_value(all_keys()[key], setting)))
    return good


def _about(key: str, problem: UsageError) -> UsageError:
    """The problem, with the setting to blame."""
    problem.setting = key
    return problem


def _is_valid(key: str, value: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if _no_text(value) is not None:
        return False
    try:
        RunConfig.model_validate(_nested({key: Setting(value, "")}), strict=True)
    except ValidationError:
        return False
    return True


def _bad_value(key: Key, setting: Setting) -> UsageError:
    value = setting.value
    fix = None
    if (reason := _no_text(value)) is not None:
        return UsageError(f"{setting.place(key.name)}: holds {reason}", "write it as text in UTF-8")
    if isinstance(value, str):
        fix = did_you_mean(value, key.words())
    elif key.takes(str) and isinstance(value, bool | int | float):
        fix = f'quote it: "{setting.word or value}"'
    elif isinstance(value, dict):
        fix = "it is one value, not a section"
    return UsageError(
        f"{setting.place(key.name)}: must be {key.describe()} (got {shown(value, setting.word)})", fix
    )


def shown(value: Any, word: str | None = None) -> str:
    """A value as the user may have written it, shortened."""
    if word is not None and not isinstance(value, str):
        text = word or "nothing"
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, int) and abs(value) >= 10**40:
        text = "a number of over 40 digits"
    else:
        text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _no_text(value: Any) -> str | None:
    """Why the value, or something in it, is not valid text: flags and the environment may hold any bytes."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return next((reason for reason in map(_no_text, value) if reason is not None), None)
    if not isinstance(value, str):
        return None
    if "\0" in value:
        return "a NUL character"
    half = next((letter for letter in value if "\ud800" <= letter <= "\udfff"), None)
    if half is None:
        return None
    # Python's placeholder for an undecodable byte.
    return "bytes that are not UTF-8" if "\udc80" <= half <= "\udcff" else "half of a surrogate pair"


def _nested(settings: Layer) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for key, setting in settings.items():
        *sections, name = key.split(".")
        inner = root
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = setting.value
    return root
