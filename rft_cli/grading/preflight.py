"""Try a grader on real rows before anything expensive starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rft_cli.config.schema import GraderConfig
from rft_cli.config.suggest import counted
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.audit import AuditReport, brief_audit, warnings_of
from rft_cli.grading.open import Opener, open_grader, open_or_tell
from rft_cli.grading.protocol import Grader
from rft_cli.grading.source import is_spec, read_source
from rft_cli.grading.spec.keys import missing_keys
from rft_cli.grading.spec.load import read_grader
from rft_cli.grading.spec.static import check_spec
from rft_cli.types import Example, Grade, GradeRequest

JUNK = 'Sure! }{ "answer": ** 1e999, [[ \\boxed{ ``` \u00e9\u4e16\u2028 None, yes and no'
"""What an untrained model may write: no valid JSON, no number, half a code fence, any script."""
_SHOWN = 5
_OF_THE_TEXT = ("sample_parse", "invalid_variable")
"""What fails because of the completion's own form, once the rows have every key: no fault of the grader's."""
_OF_THE_JUDGE = ("judge_parse", "judge_refusal")
"""What a judge that works does now and then."""

Tried = Literal["reference", "empty completion", "junk completion"]


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


@dataclass(frozen=True, slots=True)
class _Trial:
    tried: Tried
    example: Example
    completion: str


def check_grader(
    config: GraderConfig,
    examples: Sequence[Example],
    references: Sequence[str | None],
    n: int = 8,
    rows: Sequence[Example] | None = None,
    opener: Opener = open_grader,
) -> PreflightReport:
    """Grade the first `n` rows: each row's reference (where it has one), an empty completion, a junk completion.

    The keys that templates name are looked for in all `rows` (None: in these `n`).

    Raises UsageError where the grader does not load, and UsageErrors where a template names a key that a row lacks, or
    where grading fails on any of these: a model's completions will be junk to begin with, and a scorer must give them
    a low reward, not an error. A template that reads JSON out of a completion which is none is only warned of.
    Then comes the short audit, which may raise UsageError too (`brief_audit`).
    """
    trials = _trials(examples[:n], references[:n])
    # One process is enough for a few grades and starts faster.
    alone = config.model_copy(update={"workers": 1})
    missing = missing_keys(alone, examples[:n] if rows is None else rows) if is_spec(alone) else []
    with open_or_tell(lambda: opener(alone, log_path=None), missing) as grader:
        requests = [GradeRequest(t.completion, t.example.fields, prompt=t.example.prompt) for t in trials]
        # Judges are asked side by side: a verdict may take many seconds.
        judged = grader.stats.judges is not None
        grades: list[Grade] = grader.grade(requests) if judged else []
        for request in requests[len(grades) :]:
            grades += grader.grade([request])
            if grades[-1].error is not None and grades[-1].error.kind in ("timeout", "died"):
                break  # each further one may cost as long
        _raise_failures(config, trials, grades)
        report = _report(config, grader, trials, grades)
        audited = brief_audit(grader, config, examples[:n], references[:n])
        if audited is None:
            return report
        return replace(report, warnings=(*report.warnings, *warnings_of(audited)), audit=audited)


def static_problems(config: GraderConfig, rows: Sequence[Example]) -> list[UsageError]:
    """What is wrong with the grader as far as it shows without running it or asking a judge."""
    try:
        source = read_source(config)
    except UsageError as error:
        return list(error.problems)
    if not is_spec(config):
        return []
    return [*check_spec(read_grader(config, source), source).problems, *missing_keys(config, rows)]


def _trials(examples: Sequence[Example], references: Sequence[str | None]) -> list[_Trial]:
    trials = []
    for example, reference in zip(examples, references, strict=True):
        if reference is not None:
            trials.append(_Trial("reference", example, reference))
        trials.append(_Trial("empty completion", example, ""))
        trials.append(_Trial("junk completion", example, JUNK))
    return trials


def _raise_failures(config: GraderConfig, trials: Sequence[_Trial], grades: Sequence[Grade]) -> None:
    """One problem for each different failure, naming the first row on which it came."""
    problems: dict[str, UsageError] = {}
    borne = _OF_THE_TEXT + (_OF_THE_JUDGE if any(grade.error is None for grade in grades) else ())
    for trial, grade in zip(trials, grades, strict=False):
        if grade.error is None or grade.error.kind in borne:
            continue
        if grade.error.message not in problems:
            keys = ", ".join(list(trial.example.fields)[:12])
            message = f"{grade.error.message} (grading the {trial.tried} of {trial.example.source})"
            problems[grade.error.message] = UsageError(message, _fix(grade, trial, keys))
    if problems:
        raise UsageErrors(list(problems.values())[:_SHOWN])
    if grades and all(grade.status == "skipped" for grade in grades):
        message = f"{config.shown}: returned None for all of {len(grades)} completions: nothing can be graded"
        raise UsageError(
            message, "return a number (is a return missing?); None means: this one can't be graded"
        )


def _fix(grade: Grade, trial: _Trial, keys: str) -> str:
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
    config: GraderConfig, grader: Grader, trials: Sequence[_Trial], grades: Sequence[Grade]
) -> PreflightReport:
    def mean(tried: Tried) -> float | None:
        rewards = [
            g.reward for t, g in zip(trials, grades, strict=True) if t.tried == tried and g.reward is not None
        ]
        return sum(rewards) / len(rewards) if rewards else None

    reference, empty, junk = mean("reference"), mean("empty completion"), mean("junk completion")
    references = sum(trial.tried == "reference" for trial in trials)
    notes = [f"scorer: {grader.signature} of {config.shown}"]
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
    trials: Sequence[_Trial],
    grades: Sequence[Grade],
    reference: float | None,
    empty: float | None,
    junk: float | None,
) -> list[str]:
    warnings = _unreadable(trials, grades)
    for name, other in (("junk", junk), ("empty", empty)):
        if reference is not None and other is not None and other > reference:
            warnings.append(
                f"scorer: {name} completions get {other:.2f}, more than references ({reference:.2f})"
            )
    rewards = {grade.reward for grade in grades if grade.reward is not None}
    others = [other for other in (empty, junk) if other is not None]
    if reference is not None and others and len(rewards) == 1:
        warnings.append(
            f"scorer: every completion got the same reward ({rewards.pop():g}): nothing to learn from"
        )
    return warnings


def _unreadable(trials: Sequence[_Trial], grades: Sequence[Grade]) -> list[str]:
    """Completions that a template could not read: their grades fail, and a model's will, until it writes JSON."""
    found: dict[str, str] = {}
    for trial, grade in zip(trials, grades, strict=True):
        if grade.error is not None:
            found.setdefault(trial.tried, grade.error.message)
    advice = "failed grades teach nothing, and too many stop a job; a python grader can give such text a 0"
    return [f"scorer: {tried}: {message} ({advice})" for tried, message in found.items()]
