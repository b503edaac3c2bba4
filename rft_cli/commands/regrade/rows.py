"""The data rows behind a run's completions: the files of its settings, recognised by the hashes in run.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rft_cli.commands.resume.locate import hash_of_rows
from rft_cli.config import RunConfig
from rft_cli.config.paths import named
from rft_cli.data.dataset import Dataset, read_examples
from rft_cli.data.overlap import apply_overlap
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.runs import Run
from rft_cli.types import Example
from rft_cli.view.completions import Split

_FILES: Mapping[Split, str] = {"training": "train", "validation": "validation", "test": "test"}
_FLAGS = {"train": "-t FILE", "validation": "-v FILE", "test": "--set data.test=FILE"}


def read_rows(run: Run, config: RunConfig, splits: Sequence[Split]) -> dict[Split, Sequence[Example]]:
    """The rows of each split, in the order that the completions' row numbers count in.

    Raises UsageErrors for every file that is missing, or is not the one that the run was made from.
    """
    hashes = run.info.get("hashes")
    known = hashes if isinstance(hashes, dict) else {}
    found, problems = dict[Split, Sequence[Example]](), list[UsageError]()
    for split in splits:
        try:
            _check(_FILES[split], config, known)
            found[split] = _read(_FILES[split], config).examples
        except UsageError as error:
            problems += error.problems
    if "training" in found and config.data.overlap == "drop":
        found["training"] = _without_overlap(config).examples
    if len(problems) > 1:
        raise UsageErrors(problems)
    if problems:
        raise problems[0]
    return found


def _check(name: str, config: RunConfig, hashes: Mapping[str, object]) -> None:
    """UsageError if the files of this setting are not, byte for byte, those of the run."""
    files, flag = named(getattr(config.data, name)), _FLAGS[name]
    if not files:
        raise UsageError(f"data.{name}: the run's settings name no file", f"name it with {flag}")
    shown = ", ".join(files)
    try:
        now = hash_of_rows(files)
    except OSError as error:
        raise UsageError(
            f"data.{name}: {error.filename or shown} can't be read ({error.strerror}): the grader needs the rows that "
            "the completions belong to",
            f"say where the file is now: {flag} (it is recognised by its SHA-256)",
        ) from None
    then = hashes.get(name)
    if isinstance(then, str) and then != now:
        raise UsageError(
            f"data.{name}: {shown} has changed since the run (SHA-256 {then[:12]}… then, {now[:12]}… now): the "
            "completions belong to the rows of that time",
            f"name the file of that time with {flag}, or sample new completions: "
            "rft validate --run RUN --reward-model GRADER",
        )


def _read(name: str, config: RunConfig) -> Dataset:
    data = config.data
    files = named(getattr(data, name))
    return read_examples(files, format=data.format, columns=data.columns, system=data.system, role=name)


def _without_overlap(config: RunConfig) -> Dataset:
    """The training rows that were left after `data.overlap: drop`, whose numbers the completions have."""
    train = _read("train", config)
    for name in ("validation", "test"):
        files = named(getattr(config.data, name))
        if files and all(Path(file).exists() for file in files):
            train = apply_overlap(train, _read(name, config), "drop").train
    return train
