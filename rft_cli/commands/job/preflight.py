"""Everything that can be wrong with a job and that no model is needed to see: all of it at once, torch-free."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rft_cli.commands.models import check_model, context_of, resolve_run
from rft_cli.commands.request import JOB_NEEDS
from rft_cli.commands.shared import stdout_to_stderr
from rft_cli.commands.signals import signals_interrupt
from rft_cli.config import RunConfig
from rft_cli.config.load import ConfigProblems
from rft_cli.config.suggest import counted
from rft_cli.console import Check, EventPrinter
from rft_cli.data import Joined, reference_of, without_demonstration
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.events import Note
from rft_cli.job import Files, Job, not_set, read_files

if TYPE_CHECKING:
    from rft_cli.grading.audit import AuditReport

_IN_A_FILE = re.compile(r":\d+:\d+$")
_HAS_LINE = re.compile(r"^[^\n]*?\S:\d+(:\d+)?: ")
ROWS_GRADED = 3
"""Rows of each file on which the grader is tried."""
DEMONSTRATION = "builtin/tiny"
"""The model that is taken where none is named."""
SAMPLE_TASK = "Triage this support message."
"""How every prompt of the sample data begins, and of the text that the demonstration model has learned from."""
_FILES = ("data.train", "data.validation", "data.test")


@dataclass
class Preflight:
    """What was found. `checks` is the list for people, `problems` what must be mended, in the order of
    checking, `warnings` what should be looked at.

    `config` is the one given, with the name of a run as `model.path` made a path. `origins`: where settings come from;
    `doubtful`: settings that are known to be wrong.
    """

    config: RunConfig
    files: Files
    origins: Mapping[str, str] = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()
    checks: list[Check] = field(default_factory=list)
    problems: list[UsageError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def passed(self, name: str, detail: str) -> None:
        """Note that this is right."""
        self.checks.append(Check(name, True, detail))

    def absent(self, name: str, detail: str = "not given") -> None:
        """Note that there was nothing to check."""
        self.checks.append(Check(name, None, detail))

    def blame(self, name: str, error: UsageError, key: str | None = None) -> None:
        """Note that this is wrong. `key`: the setting that names it, whose line in a YAML file is told."""
        problems = error.problems
        if key is not None and _IN_A_FILE.search(self.origins.get(key, "")):
            problems = tuple(self._placed(key, problem) for problem in problems)
        self.problems.extend(problems)
        self.checks.append(Check(name, False, f"{counted(len(problems), 'problem')}, told below"))

    def _placed(self, key: str, problem: UsageError) -> UsageError:
        """With the setting's place in front, but where the message has a line of its own file already."""
        if _HAS_LINE.search(problem.message):
            return problem
        return UsageError(f"{self.origins[key]}: {key}: {problem.message}", problem.fix)

    def raise_problems(self) -> None:
        """Raise everything that is wrong as one error."""
        if self.problems:
            raise UsageErrors(self.problems)

    def in_doubt(self, *keys: str) -> bool:
        """Whether one of these settings, or one in these sections, is known to be wrong: what rests on it is too."""
        return any(key == wrong or wrong.startswith(f"{key}.") for key in keys for wrong in self.doubtful)

    def job(self) -> Job:
        """The job; raises UsageErrors where something is wrong."""
        self.raise_problems()
        data = self.files.data
        train, validation, test = data["train"], data["validation"], data.get("test")
        return Job(self.config, train, validation, test, warnings=tuple(self.warnings))

    def notes(self) -> list[str]:
        """What was detected, a line a file, and what of the rows is not read as it stands."""
        lines = [note for data in self.files.data.values() for note in data.notes]
        return list(dict.fromkeys([*lines, *self.remarks()]))

    def remarks(self) -> list[str]:
        """What of the rows is not read as it stands, a line each; once where one file has two parts in the job."""
        return list(dict.fromkeys(remark for data in self.files.data.values() for remark in data.remarks))


def preflight(
    config: RunConfig,
    needs: Sequence[str] = JOB_NEEDS,
    origins: Mapping[str, str] | None = None,
    doubtful: frozenset[str] = frozenset(),
) -> Preflight:
    """Check data, overlap, grader and model. What is set is checked; what `needs` names must be set.

    `origins` are those of the loaded configuration: problems with what a YAML file names are told with its line.
    `doubtful` are keys of settings that are known to be wrong: what rests on them is not looked at.

    Raises nothing itself: `Preflight.raise_problems` does.
    """
    problem = None
    try:
        path = resolve_run(config.model.path, config.output_dir)
        config = config.model_copy(update={"model": config.model.model_copy(update={"path": path})})
    except UsageError as error:
        problem = error
    readable = (
        not any(key.startswith("data.") and key not in _FILES for key in doubtful) and "data" not in doubtful
    )
    files = read_files(config) if readable else Files()
    found = Preflight(config, files, origins or {}, doubtful, warnings=list(files.warnings))
    if readable:
        for name in ("train", "validation", "test"):
            if f"data.{name}" not in doubtful:
                _check_file(found, name, needs)
        _check_overlap(found)
        _check_demonstrations(found)
    if not found.in_doubt("grader.path", "grader.spec"):
        _check_grader(found, needs)
    if "model" in needs and not found.in_doubt("model", "output_dir"):
        _check_model(found, problem)
    return found


def also_wrong(problems: ConfigProblems, needs: Sequence[str]) -> list[UsageError]:
    """What is wrong with a job beside its settings; prints the notes on those that are right."""
    partial = problems.partial
    note = EventPrinter("plain")
    for line in problems.notes:
        note(Note(line))
    if partial is None:
        return []
    with stdout_to_stderr():
        return preflight(partial.config, needs, partial.origins, problems.doubtful).problems


def _check_file(found: Preflight, name: str, needs: Sequence[str]) -> None:
    label = f"{name} rows"
    problems = found.files.problems.get(name)
    if problems:
        found.blame(label, UsageErrors(problems), f"data.{name}")
    elif name in found.files.data:
        data = found.files.data[name]
        found.passed(label, f"{data.path}: {counted(len(data.examples), 'row')}, format {data.format}")
    elif name in needs:
        found.blame(label, not_set(name))
    else:
        found.absent(label)


def _check_overlap(found: Preflight) -> None:
    files = found.files
    problems = files.problems.get("overlap")
    if problems:
        found.blame("overlap", UsageErrors(problems))
    elif "train" not in files.data or len(files.data) < 2:
        found.absent("overlap", "needs the training rows and other rows")
    else:
        detail = "; ".join(files.warnings) or "no training prompt stands in the other files"
        found.checks.append(Check("overlap", True, detail, look=bool(files.warnings)))


def _check_demonstrations(found: Preflight) -> None:
    """Whether every training row has what sft teaches."""
    train = found.files.data.get("train")
    if train is None or not found.config.teaches or found.in_doubt("algorithm"):
        return
    problem = without_demonstration(train, found.config.data.columns)
    if problem is None:
        found.passed("references", f"{counted(len(train.examples), 'row')} to learn from")
    else:
        found.blame("references", problem)


def _check_grader(found: Preflight, needs: Sequence[str]) -> None:
    if found.config.grader.shown is None:
        if "grader" in needs:
            fix = "give a scorer with --reward-model scorer.py, or as grader.path in the YAML"
            found.blame("grader", UsageError("no grader is set", fix))
        else:
            found.absent("grader")
        return
    from rft_cli.grading.preflight import check_grader, static_problems
    from rft_cli.training.graders import open_grader

    rows = Joined(data.examples for data in found.files.data.values())
    examples = [example for data in found.files.data.values() for example in data.examples[:ROWS_GRADED]]
    references = [reference_of(example, found.config.data.columns) for example in examples]
    if found.in_doubt("grader"):
        # With other settings it would run in another way, and judges may be asked at another place.
        problems = static_problems(found.config.grader, rows)
        if problems:
            found.blame("grader", UsageErrors(problems), "grader.path")
        return
    try:
        with signals_interrupt():  # worker processes and their folders must not be left behind
            report = check_grader(
                found.config.grader,
                examples,
                references,
                n=len(examples),
                rows=rows,
                opener=open_grader,
                columns=found.config.data.columns,
            )
    except UsageError as error:
        found.blame("grader", error, "grader.path")
    else:
        found.passed("grader", "; ".join(line.removeprefix("scorer: ") for line in report.notes))
        found.warnings += report.warnings
        _note_audit(found, report.audit)


def _note_audit(found: Preflight, audit: AuditReport | None) -> None:
    if audit is None:
        found.absent("grader audit", "needs rows with references, and grader.audit")
        return
    problems = len(audit.of_level("problem"))
    found_what = counted(problems, "problem") if problems else "no problem"
    detail = f"{audit.calls} grades on {counted(audit.rows, 'row')}: {found_what}"
    found.checks.append(Check("grader audit", True, detail, look=problems > 0))


def _own_rows(found: Preflight) -> bool:
    """Whether the training rows are another task than the one that the demonstration model was made for."""
    train = found.files.data.get("train")
    return train is not None and not all(SAMPLE_TASK in e.prompt_text() for e in train.examples[:ROWS_GRADED])


def _check_model(found: Preflight, problem: UsageError | None) -> None:
    model = found.config.model
    try:
        if problem is not None:
            raise problem
        check_model(model.path, model.revision)
    except UsageError as error:
        found.blame("model", error, "model.path")
        return
    found.passed("model", model.path)
    if model.path == DEMONSTRATION and found.origins.get("model.path") == "default" and _own_rows(found):
        found.warnings.append(
            f"{DEMONSTRATION} is a demonstration model: it knows the task of the sample data and nothing else; for "
            "rows of your own choose a model, for example --model Qwen/Qwen2.5-0.5B-Instruct or --model DIRECTORY"
        )
    context, wanted = context_of(model.path, model.revision), found.config.rollout.max_completion_tokens
    if context is not None and wanted != "auto" and wanted >= context:
        key = "rollout.max_completion_tokens"
        message = f"{wanted} tokens leave no room for a prompt: the context of {model.path} is {context}"
        place = "" if key in found.origins and _IN_A_FILE.search(found.origins[key]) else f"{key}: "
        found.blame("context", UsageError(place + message, "set it lower, or leave it at auto"), key)
