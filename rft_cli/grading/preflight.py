"""Try a grader on real rows before anything expensive starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rft_cli.config.schema import GraderConfig
from rft_cli.config.suggest import counted
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.audit import AuditReport, brief_audit, warnings_of
from rft_cli.grading.open import Opener, open_grader, open_or_tell
from rft_cli.grading.protocol import Grader
from rft_cli.grading.shape import shape_of
from rft_cli.grading.source import is_spec
from rft_cli.grading.spec.keys import missing_keys
from rft_cli.grading.trials import LOST, MOST_LOST, Trial, Tried, first_trials, further_trials
from rft_cli.types import Example, Grade, GradeRequest

_SHOWN = 5
_OF_THE_TEXT = ("sample_parse", "invalid_variable")
"""What fails because of the completion's own form, once the rows have every key: no fault of the grader's."""


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """What the scorer did on real rows. Means are over graded completions; None where there were none.

    `notes` and `warnings` are lines for people; `seconds_per_grade` is the mean. `audit` is None where there was none.
    """

    signature: str
    sha256: str
    graded: int
    skipped: int
    reference_mean: float | None
    empty_mean: float | None
    junk_mean: float | None
    seconds_per_grade: float
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    audit: AuditReport | None = None


def check_grader(
    config: GraderConfig,
    examples: Sequence[Example],
    references: Sequence[str | None],
    n: int = 8,
    rows: Sequence[Example] | None = None,
    opener: Opener = open_grader,
    columns: Mapping[str, str] | None = None,
) -> PreflightReport:
    """Grade the first `n` rows: each row's reference (where it has one), an empty completion, a junk completion.

    The keys that templates name are looked for in all `rows` (None: in these `n`).

    Raises UsageError where the grader does not load, and UsageErrors where a template names a key that a row lacks, or
    where the grader fails on every text that it was tried with, `further_trials` among them. Where it fails on some,
    that is a warning: rft made the texts up, and a reference is not always a completion. Then comes the short audit.
    """
    # One process is enough for a few grades and starts faster.
    alone = config.model_copy(update={"workers": 1})
    missing = missing_keys(alone, examples[:n] if rows is None else rows) if is_spec(alone) else []
    shape = shape_of(examples if rows is None else rows, columns or {})
    with open_or_tell(lambda: opener(alone, log_path=None, rows=shape), missing) as grader:
        if grader.needs_ids:
            return _untried(config, grader)
        trials, grades = _graded(grader, examples[:n], references[:n])
        _raise_failures(config, trials, grades)
        report = _report(config, grader, trials, grades)
        # Where a grade was lost to the time limit, an audit might wait for each of its own.
        audited = None if _lost(grades) else brief_audit(grader, config, examples[:n], references[:n])
        if audited is None:
            return report
        return replace(report, warnings=(*report.warnings, *warnings_of(audited)), audit=audited)


def _untried(config: GraderConfig, grader: Grader) -> PreflightReport:
    note = "scorer: takes completion_ids, which only a model's completions have: it was not tried"
    notes = (*_first_notes(config, grader), note)
    return PreflightReport(grader.signature, grader.sha256, 0, 0, None, None, None, 0.0, notes, ())


def _first_notes(config: GraderConfig, grader: Grader) -> list[str]:
    return [f"scorer: {grader.signature} of {config.shown}", *(f"scorer: {note}" for note in grader.notes)]


def _graded(
    grader: Grader, examples: Sequence[Example], references: Sequence[str | None]
) -> tuple[list[Trial], list[Grade]]:
    """The texts that were tried, and what each got."""
    trials = first_trials(examples, references)
    if grader.stats.judges is not None:  # asked side by side, and paid: the first texts must do
        return trials, grader.grade([_request(trial) for trial in trials])
    grades: list[Grade] = []
    for trial in trials:
        grades += grader.grade([_request(trial)])
        if _lost(grades) >= MOST_LOST:
            break  # each further one may cost as long
    trials = trials[: len(grades)]
    if not any(grade.status == "graded" for grade in grades) and _lost(grades) < MOST_LOST:
        for trial, grade in further_trials(examples, references, lambda t: grader.grade([_request(t)])[0]):
            trials.append(trial)
            grades.append(grade)
            if grade.status == "graded" or _lost(grades) >= MOST_LOST:
                break
    return trials, grades


def _request(trial: Trial) -> GradeRequest:
    return GradeRequest(trial.completion, trial.example.fields, prompt=trial.example.prompt)


def _lost(grades: Sequence[Grade]) -> int:
    return sum(grade.error is not None and grade.error.kind in LOST for grade in grades)


def _raise_failures(config: GraderConfig, trials: Sequence[Trial], grades: Sequence[Grade]) -> None:
    """Where no text could be graded: one problem for each different failure, naming the first row on which it came."""
    if any(grade.error is None or grade.error.kind in _OF_THE_TEXT for grade in grades):
        return
    problems: dict[str, UsageError] = {}
    for trial, grade in zip(trials, grades, strict=True):
        if grade.error is not None and grade.error.message not in problems:
            keys = ", ".join(list(trial.example.fields)[:12])
            message = f"{grade.error.message} (grading the {trial.tried} of {trial.example.source})"
            problems[grade.error.message] = UsageError(message, _fix(grade, trial, keys))
    if problems:
        raise UsageErrors(list(problems.values())[:_SHOWN])


def _fix(grade: Grade, trial: Trial, keys: str) -> str:
    kind = grade.error.kind if grade.error is not None else ""
    if kind == "timeout":
        return "make it faster, or raise grader.timeout_s"
    if kind.startswith("judge_"):
        return "see what the judge writes: rft grade shows each row's error"
    if kind == "bad_value":
        return "return a finite number, a bool, a dict with 'reward', or None"
    if grade.error is not None and "KeyError" in grade.error.message:
        return f"the row has the keys {keys}"
    if trial.tried == "reference":
        return f"correct the scorer, or this row (its keys: {keys}): rft grade --gold FILE shows more"
    return f"give such a completion a low reward: a model will write the like (the row's keys: {keys})"


def _report(
    config: GraderConfig, grader: Grader, trials: Sequence[Trial], grades: Sequence[Grade]
) -> PreflightReport:
    def mean(tried: Tried) -> float | None:
        rewards = [
            g.reward for t, g in zip(trials, grades, strict=True) if t.tried == tried and g.reward is not None
        ]
        return sum(rewards) / len(rewards) if rewards else None

    reference, empty, junk = mean("reference"), mean("empty completion"), mean("junk completion")
    references = sum(
        t.tried == "reference" and g.reward is not None for t, g in zip(trials, grades, strict=True)
    )
    notes = _first_notes(config, grader)
    if reference is not None:
        notes.append(f"scorer: {counted(references, 'reference')} graded, mean reward {reference:.2f}")
    if junk is not None:
        notes.append(f"scorer: junk completions get {junk:.2f}")
    return PreflightReport(
        signature=grader.signature,
        sha256=grader.sha256,
        graded=grader.stats.graded,
        skipped=grader.stats.skipped,
        reference_mean=reference,
        empty_mean=empty,
        junk_mean=junk,
        seconds_per_grade=sum(grade.seconds for grade in grades) / max(1, len(grades)),
        notes=tuple(notes),
        warnings=tuple(_warnings(trials, grades, reference, empty, junk)),
    )


def _warnings(
    trials: Sequence[Trial],
    grades: Sequence[Grade],
    reference: float | None,
    empty: float | None,
    junk: float | None,
) -> list[str]:
    warnings = _failing(trials, grades)
    if grades and all(grade.status == "skipped" for grade in grades):
        warnings.append(
            f"scorer: returned None for all of {len(grades)} completions: is a return missing? None means that one "
            "can't be graded, and nothing can be learned from it"
        )
    for name, other in (("junk", junk), ("empty", empty)):
        if reference is not None and other is not None and other > reference:
            warnings.append(
                f"scorer: {name} completions get {other:.2f}, more than references ({reference:.2f})"
            )
    rewards = {grade.reward for grade in grades if grade.reward is not None}
    others = [other for other in (empty, junk) if other is not None]
    if reference is not None and others and len(rewards) == 1:
        warnings.append(
            f"scorer: every completion got the same reward ({rewards.pop():g}): nothing to learn from if a model's do"
        )
    return warnings


def _failing(trials: Sequence[Trial], grades: Sequence[Grade]) -> list[str]:
    """The kinds of text on which the grader fails, one line for each different reason."""
    found: dict[str, list[str]] = {}
    told: dict[str, str] = {}
    for trial, grade in zip(trials, grades, strict=True):
        if grade.error is not None and not any(trial.tried in names for names in found.values()):
            reason = grade.error.message.partition(": ")[0] + grade.error.kind  # one line of code, one reason
            found.setdefault(reason, []).append(trial.tried)
            told.setdefault(reason, f"{grade.error.message} ({trial.example.source})")
    advice = (
        "failed grades teach nothing, and too many stop a job: give a text that can't be read a low reward"
    )
    return [f"scorer: fails on {_listed(names)}: {told[reason]}; {advice}" for reason, names in found.items()]


def _listed(names: Sequence[str]) -> str:
    words = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
