"""Finds everything that can be wrong with a job without loading a model, and reports it all at once. Torch-free."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rft_cli.commands.job.model_check import check_model, context_of, resolve_run
from rft_cli.commands.needs import JOB_NEEDS
from rft_cli.commands.signals import signals_interrupt
from rft_cli.config import RunConfig
from rft_cli.config.quantize import check_quantize
from rft_cli.config.suggest import counted
from rft_cli.config.trackers import check_trackers
from rft_cli.console import Check
from rft_cli.data.demonstrations import without_demonstration
from rft_cli.data.references import reference_of
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.job import DataFiles, Job, not_set, read_files

if TYPE_CHECKING:
    from rft_cli.config.schema import GraderConfig
    from rft_cli.grading.audit.results import AuditReport
    from rft_cli.grading.preflight import PreflightReport

_IN_A_FILE = re.compile(r":\d+:\d+$")
_HAS_LINE = re.compile(r"^[^\n]*?\S:\d+(:\d+)?: ")
ROWS_GRADED = 3
"""Rows of each file on which the grader is tried."""
_SETTINGS = {
    **{f"{name} rows": f"data.{name}" for name in ("train", "validation", "test")},
    **{"overlap": "data.overlap", "references": "data.train", "grader": "grader.path", "run": "name"},
}
"""The setting to blame for a check, where a problem comes without one."""
DEMONSTRATION = "builtin/tiny"
"""The default model."""
SAMPLE_TASK = "Triage this support message."
"""How every prompt of the sample data begins, and of the text that the demonstration model was trained on."""


@dataclass
class Preflight:
    """What was found. `checks` is the list for people, in order; `problems` must be fixed; `warnings` are advice.

    `config` is the one given, with a run's name in `model.path` replaced by its path. `origins`: where settings come
    from.
    """

    config: RunConfig
    files: DataFiles
    origins: Mapping[str, str] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    problems: list[UsageError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def passed(self, name: str, detail: str) -> None:
        self.checks.append(Check(name, True, detail))

    def absent(self, name: str, detail: str = "not given") -> None:
        """Record that there was nothing to check."""
        self.checks.append(Check(name, None, detail))

    def failed(self, name: str, error: UsageError, key: str | None = None) -> None:
        """Record a problem. `key`: the setting that names the file; its line in a YAML file goes into the message."""
        problems = error.problems
        if key is not None and _IN_A_FILE.search(self.origins.get(key, "")):
            problems = tuple(self._with_place(key, problem) for problem in problems)
        for problem in problems:
            problem.setting = key or _SETTINGS.get(name)
        self.problems.extend(problems)
        self.checks.append(Check(name, False, f"{counted(len(problems), 'problem')}, listed below"))

    def _with_place(self, key: str, problem: UsageError) -> UsageError:
        """The problem after the setting's place, unless its message has a line of another file already."""
        if _HAS_LINE.search(problem.message):
            return problem
        return UsageError(f"{self.origins[key]}: {key}: {problem.message}", problem.fix)

    def raise_problems(self) -> None:
        """Raise all problems as one error."""
        if self.problems:
            raise UsageErrors(self.problems)

    def job(self) -> Job:
        """The job; UsageErrors if there are problems."""
        self.raise_problems()
        data = self.files.data
        train, validation, test = data["train"], data["validation"], data.get("test")
        return Job(self.config, train, validation, test, warnings=tuple(self.warnings))

    def notes(self) -> list[str]:
        """The format detected in each file, and the remarks."""
        lines = [note for data in self.files.data.values() for note in data.notes]
        return list(dict.fromkeys([*lines, *self.remarks()]))

    def remarks(self) -> list[str]:
        """What in the rows is ignored or changed, one line each, without duplicates."""
        return list(dict.fromkeys(remark for data in self.files.data.values() for remark in data.remarks))


def preflight(
    config: RunConfig, needs: Sequence[str] = JOB_NEEDS, origins: Mapping[str, str] | None = None
) -> Preflight:
    """Check data, overlap, grader and model. What is set is checked; what `needs` names must be set.

    `origins` are those of the loaded configuration. Raises nothing itself: `Preflight.raise_problems` does.
    """
    problem = None
    try:
        path = resolve_run(config.model.path, config.output_dir)
        config = config.model_copy(update={"model": config.model.model_copy(update={"path": path})})
    except UsageError as error:
        problem = error
    files = read_files(config)
    found = Preflight(config, files, origins or {}, warnings=list(files.warnings))
    for name in ("train", "validation", "test"):
        _check_file(found, name, needs)
    _check_overlap(found)
    _check_demonstrations(found)
    _check_grader(found, needs)
    _check_guard(found)
    if "model" in needs:
        _check_model(found, problem)
    if "train" in needs:
        _check_trackers(found)
        _check_quantize(found)
    return found


def _check_file(found: Preflight, name: str, needs: Sequence[str]) -> None:
    label = f"{name} rows"
    problems = found.files.problems.get(name)
    if problems:
        found.failed(label, UsageErrors(problems), f"data.{name}")
    elif name in found.files.data:
        data = found.files.data[name]
        found.passed(label, f"{data.path}: {counted(len(data.examples), 'row')}, format {data.format}")
    elif name in needs:
        found.failed(label, not_set(name))
    else:
        found.absent(label)


def _check_overlap(found: Preflight) -> None:
    files = found.files
    problems = files.problems.get("overlap")
    if problems:
        found.failed("overlap", UsageErrors(problems))
    elif "train" not in files.data or len(files.data) < 2:
        found.absent("overlap", "needs the training rows and other rows")
    else:
        detail = "; ".join(files.warnings) or "no training prompt is in the other files"
        found.checks.append(Check("overlap", True, detail, look=bool(files.warnings)))


def _check_demonstrations(found: Preflight) -> None:
    """Check that every training row has a reference, which sft needs."""
    train = found.files.data.get("train")
    if train is None or not found.config.teaches:
        return
    problem = without_demonstration(train, found.config.data.columns)
    if problem is None:
        found.passed("references", f"{counted(len(train.examples), 'row')} to learn from")
    else:
        found.failed("references", problem)


def _check_grader(found: Preflight, needs: Sequence[str]) -> None:
    if found.config.grader.shown is None:
        if "grader" in needs:
            fix = "give a scorer with --reward-model scorer.py, or as grader.path in the YAML"
            found.failed("grader", UsageError("no grader is set", fix))
        else:
            found.absent("grader")
        return
    try:
        report = _tried(found, found.config.grader)
    except UsageError as error:
        found.failed("grader", error, "grader.path")
    else:
        found.passed("grader", "; ".join(line.removeprefix("scorer: ") for line in report.notes))
        found.warnings += report.warnings
        _note_audit(found, report.audit)


def _tried(found: Preflight, grader: GraderConfig) -> PreflightReport:
    """What this grader did on a few rows of each file; UsageError where it can't be used."""
    from rft_cli.grading.preflight import check_grader
    from rft_cli.training.graders import open_grader

    rows = [example for data in found.files.data.values() for example in data.examples]
    examples = [example for data in found.files.data.values() for example in data.examples[:ROWS_GRADED]]
    references = [reference_of(example, found.config.data.columns) for example in examples]
    # removes worker processes and their folders
    with signals_interrupt():
        return check_grader(
            grader,
            examples,
            references,
            n=len(examples),
            rows=rows,
            opener=open_grader,
            columns=found.config.data.columns,
        )


def _check_guard(found: Preflight) -> None:
    """Try the second grader on the same rows, where there is one; nobody trains on it, so it is not audited."""
    guard = found.config.grader.of_guard()
    if guard is None:
        return
    try:
        report = _tried(found, guard.model_copy(update={"audit": "none"}))
    except UsageError as error:
        found.failed("guard", error, "grader.guard")
    else:
        found.passed("guard", "; ".join(line.removeprefix("scorer: ") for line in report.notes))
        found.warnings += [line.replace("scorer:", "guard:", 1) for line in report.warnings]


def _note_audit(found: Preflight, audit: AuditReport | None) -> None:
    if audit is None:
        found.absent("grader audit", "needs rows with references, and grader.audit")
        return
    problems = len(audit.of_level("problem"))
    result = counted(problems, "problem") if problems else "no problem"
    detail = f"{audit.calls} grades on {counted(audit.rows, 'row')}: {result}"
    found.checks.append(Check("grader audit", True, detail, look=problems > 0))


def _check_trackers(found: Preflight) -> None:
    names = found.config.trackers
    if not names:
        return
    try:
        check_trackers(names)
    except UsageError as error:
        found.failed("trackers", error, "report_to")
    else:
        found.passed("trackers", ", ".join(names))


def _check_quantize(found: Preflight) -> None:
    try:
        check_quantize(found.config, os.environ)
    except UsageError as error:
        found.failed("quantization", error, "lora.quantize")


def _own_rows(found: Preflight) -> bool:
    """Whether the training rows are another task than the demonstration model's."""
    train = found.files.data.get("train")
    return train is not None and not all(SAMPLE_TASK in e.prompt_text() for e in train.examples[:ROWS_GRADED])


def _check_model(found: Preflight, problem: UsageError | None) -> None:
    model = found.config.model
    try:
        if problem is not None:
            raise problem
        check_model(model.path, model.revision)
    except UsageError as error:
        found.failed("model", error, "model.path")
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
        found.failed("context", UsageError(place + message, "set it lower, or leave it at auto"), key)
