"""Job: a configuration with its rows, as every training process gets it."""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

from rft_cli import __version__
from rft_cli.config import RunConfig
from rft_cli.config.dump import dump_config, with_absolute_paths
from rft_cli.config.flat import flat, with_settings
from rft_cli.config.launcher import world_size_in
from rft_cli.config.paths import named, one_or_all
from rft_cli.config.scorers import split_target
from rft_cli.data.dataset import Dataset, read_examples
from rft_cli.data.overlap import apply_overlap
from rft_cli.data.references import solution_of
from rft_cli.errors import GateNotMet, Interrupted, OutOfMemory, UsageError, UsageErrors
from rft_cli.grading.shape import Shape, shape_of
from rft_cli.grading.source import (
    imported_files,
    is_reward_model,
    is_spec,
    read_source,
    read_sources,
    sha256_of_all,
)
from rft_cli.grading.worker.messages import ScorerSource
from rft_cli.runs import Run
from rft_cli.runs.model_hash import base_identity, commit_of
from rft_cli.runs.suggested_commands import resume_command
from rft_cli.types import Example

_NAMES = {"train": ("training", "-t"), "validation": ("validation", "-v"), "test": ("test", "--test")}


@dataclass(frozen=True)
class Job:
    """One job's settings and rows; `test` is None if the job has no test file.

    `asked_revision` is the branch or tag in whose place `config` has its commit, None if none was asked for;
    `asked_data` has the names of hub data sets in whose place it has theirs at a commit, by setting.
    `warnings` are what was found before the run exists: it keeps them.
    """

    config: RunConfig
    train: Dataset
    validation: Dataset
    test: Dataset | None = None
    asked_revision: str | None = None
    asked_data: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def shape(self) -> Shape:
        """The shape of the job's rows, to which a scorer's parameters are bound."""
        parts = (self.train, self.validation, *(() if self.test is None else (self.test,)))
        return shape_of(chain.from_iterable(part.examples for part in parts), self.config.data.columns)

    def reference(self, example: Example) -> str | None:
        """The row's reference as it was written, reasoning included, where its format has one."""
        return solution_of(example, self.config.data.columns)


@dataclass
class DataFiles:
    """The data files of a configuration, as far as they could be read.

    Keys are train, validation and test; `problems` also has overlap. `warnings` are about overlapping rows.
    """

    data: dict[str, Dataset] = field(default_factory=dict)
    problems: dict[str, list[UsageError]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def blame(self, name: str, error: UsageError) -> None:
        """Keep the problems of an error."""
        self.problems.setdefault(name, []).extend(error.problems)


def load_job(config: RunConfig) -> Job:
    """Read the job's data files; UsageErrors with every problem of all of them."""
    files = read_files(config)
    problems = [not_set(name) for name in ("train", "validation") if getattr(config.data, name) is None]
    problems += [problem for found in files.problems.values() for problem in found]
    if problems:
        raise UsageErrors(problems)
    return Job(config, files.data["train"], files.data["validation"], files.data.get("test"))


def not_set(name: str) -> UsageError:
    """The problem of a data file that is needed and not set."""
    word, flag = _NAMES[name]
    return UsageError(f"no {word} file is set", f"give it with {flag} FILE, or as data.{name} in the YAML")


def read_files(config: RunConfig) -> DataFiles:
    """Read the data files that are set, and do what `data.overlap` says; problems are collected, not raised."""
    files = DataFiles()
    for name in _NAMES:
        paths = named(getattr(config.data, name))
        if paths:
            try:
                files.data[name] = _read(paths, config, name)
            except UsageError as error:
                files.blame(name, error)
    for name in ("validation", "test"):
        if "train" in files.data and name in files.data:
            try:
                checked = apply_overlap(files.data["train"], files.data[name], config.data.overlap)
            except UsageError as error:
                files.blame("overlap", error)
            else:
                files.data["train"] = checked.train
                files.warnings += [] if checked.note is None else [checked.note]
    return files


def _read(paths: list[str], config: RunConfig, role: str) -> Dataset:
    for path in paths:
        if path == "-":
            raise UsageError(
                "a job reads its rows more than once: it can't take '-'", "save the rows to a file"
            )
        if _is_stream(path):
            message = f"{path}: is a pipe or a device: a job reads its rows more than once"
            raise UsageError(message, "save the rows to a file")
    data = config.data
    return read_examples(paths, format=data.format, columns=data.columns, system=data.system, role=role)


def _is_stream(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        # Opening it raises the error.
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def pinned(job: Job) -> Job:
    """The job with its hub model and data sets at the commit that each is now: what every process loads, and the run
    when it resumes.

    Raises UsageError if `model.path` is a run or an adapter whose own parts are gone.
    """
    job = _with_pinned_data(job)
    model = job.config.model
    commit = commit_of(model.path, model.revision)
    return job if commit is None else replace(at_revision(job, commit), asked_revision=model.revision)


def _with_pinned_data(job: Job) -> Job:
    data, asked, settings = job.config.data, dict[str, Any](), dict[str, Any]()
    for name, rows in (("train", job.train), ("validation", job.validation), ("test", job.test)):
        given = named(getattr(data, name))
        if rows is not None and given and list(rows.pinned) != given:
            asked[f"data.{name}"], settings[f"data.{name}"] = (
                getattr(data, name),
                one_or_all(list(rows.pinned)),
            )
    if not settings:
        return job
    return replace(job, config=with_settings(job.config, settings), asked_data=asked)


def at_revision(job: Job, revision: str | None) -> Job:
    """The job with this revision of its model."""
    return replace(job, config=with_settings(job.config, {"model.revision": revision}))


def hashes(job: Job, graders: Sequence[ScorerSource]) -> dict[str, str]:
    """SHA-256 of what the job reads: its data files and its grader; of several scorers also each one's, in order."""
    found = {"train": job.train.sha256, "validation": job.validation.sha256}
    if job.test is not None:
        found["test"] = job.test.sha256
    guard = job.config.grader.of_guard()
    if guard is not None:
        found["guard"] = read_source(guard).sha256
    each = {f"grader {place}": source.sha256 for place, source in enumerate(graders, 1)}
    return {**found, "grader": sha256_of_all(graders), **(each if len(graders) > 1 else {})}


def record(job: Job, graders: Sequence[ScorerSource]) -> dict[str, Any]:
    """What run.json says of the job and its grader as it was read, and what a resumed run is compared with."""
    config = with_absolute_paths(job.config)
    return {
        "algorithm": config.algorithm,
        "model": config.model.path,
        "base": base_identity(config.model.path, config.model.revision),
        "seed": config.seed,
        "num_processes": processes(config),
        "hashes": hashes(job, graders),
        "grader_modules": scorer_modules(config),
        "settings": {key: value for key, value in flat(config).items() if key not in PLACE},
    }


PLACE = ("name", "output_dir")
"""Settings that say where a run is stored, not what it trains."""
CONTENT = {
    "data.train": "train", "data.validation": "validation", "data.test": "test", "grader.path": "grader",
    "grader.guard": "guard",
}  # fmt: skip
"""Settings that name a file -> its name in `hashes`."""


def processes(config: RunConfig) -> int:
    """How many processes train: those of the launcher that started this one, else `num_processes`."""
    launched = world_size_in(os.environ)
    return launched if launched > 1 else config.num_processes


def scorer_modules(config: RunConfig) -> dict[str, str]:
    """Hashes of the files that the scorers import, the guard too, from their own folders and from `grader.folder`."""
    graders = [one for one, _ in config.grader.each()]
    guard = config.grader.of_guard()
    graders += [] if guard is None else [guard]
    found: dict[str, str] = {}
    for one in graders:
        if one.path is None or is_spec(one) or is_reward_model(one):
            continue
        file = Path(split_target(str(one.path))[0]).expanduser()
        found |= imported_files(file, None if one.folder is None else Path(one.folder).expanduser())
    return found


def create_run(job: Job) -> Run:
    """Make the job's run directory: resolved configuration, a copy of the scorer, versions, hashes and seed."""
    config = with_absolute_paths(job.config)
    # Read once: the copy is what the record has the hash of.
    graders = read_sources(config.grader)
    guard = config.grader.of_guard()
    kept = graders if guard is None else [*graders, read_source(guard)]
    return Run.create(
        config.output_dir,
        config.name,
        # Without the name, because the file can start other runs.
        config_yaml=dump_config(config.model_copy(update={"name": None})),
        info={
            **record(job, graders),
            "asked_revision": job.asked_revision,
            "asked_data": dict(job.asked_data),
            "versions": versions(),
            "warnings": [{"step": 0, "text": text} for text in dict.fromkeys(job.warnings)],
        },
        files=_copies(kept),
    )


def _copies(graders: Sequence[ScorerSource]) -> dict[str, bytes]:
    """The scorers' files as the run keeps them; of two with one name the second gets a number."""
    files: dict[str, bytes] = {}
    for grader in graders:
        path = Path(grader.path)
        name, number = f"scorer/{path.name}", 2
        while files.get(name, grader.content) != grader.content:
            name, number = f"scorer/{path.stem}-{number}{path.suffix}", number + 1
        files[name] = grader.content
    return files


@contextmanager
def explain_resume(run: Run, new: bool) -> Iterator[None]:
    """A signal that ends the block says what is saved and how to go on; a `new` run without any work is deleted
    where its settings turn out to be wrong, memory runs out, or the pilot shows that nothing can be learned."""
    try:
        yield
    except (GateNotMet, OutOfMemory, UsageError):
        if new:
            run.discard_if_empty()
        raise
    except Interrupted as error:
        saved = run.checkpoints()
        kept = f"step {saved[-1]} is saved" if saved else "no step is saved yet, a resumed run starts over"
        fix = f"resume with: {resume_command(run.path)}"
        raise Interrupted(error.signal_number, f"{error.message}: {kept}", fix) from None


def versions() -> dict[str, str]:
    """Versions of Python, of rft and of the libraries on which the result of a seed depends."""
    found = {"python": platform.python_version(), "rft": __version__}
    for name in ("torch", "transformers", "trl", "peft", "accelerate"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
