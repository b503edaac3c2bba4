"""Tries a grader on real rows before anything expensive starts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from rft_cli.config.schema import GraderConfig
from rft_cli.config.suggest import counted
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.audit.results import AuditReport
from rft_cli.grading.audit.run import brief_audit, warnings_of
from rft_cli.grading.open import open_grader
from rft_cli.grading.openai.row_keys import missing_keys
from rft_cli.grading.protocol import Grader
from rft_cli.grading.shape import shape_of
from rft_cli.grading.source import is_spec
from rft_cli.types import Example, Grade, GradeRequest

JUNK = 'Sure! }{ "answer": ** 1e999, [[ \\boxed{ ``` \u00e9\u4e16\u2028 None, yes and no'
"""What an untrained model may write: no valid JSON, no number, half a code fence, any script."""
_PLAIN = "The answer is {}."
_WORKED = "<think>\nStep by step: {0}.\n</think>\n<answer>{0}</answer>\n\\boxed{{{0}}}\nAnswer: {0}\n#### {0}"
"""The answer in the forms that scorers look for, all in one text."""
_MISSING_KEY = re.compile(r"KeyError: '([^'\\]{1,60})'$")
_MOST_KEYS = 8
_ROWS = 2

TextKind = Literal[
    "reference", "empty completion", "junk completion", "plain sentence", "worked answer", "JSON object"
]

_SHOWN = 5
_OF_THE_TEXT = ("sample_parse", "invalid_variable")
"""Failures that the completion's own form explains, once the rows have every key: not the grader's fault."""
_SLOW = ("timeout", "died")
"""Failures of which each further one may take as long."""
_MOST_SLOW = 2


@dataclass(frozen=True, slots=True)
class Trial:
    """One text of a kind, and the row it is graded on."""

    kind: TextKind
    example: Example
    completion: str

    def request(self) -> GradeRequest:
        """What the grader is asked."""
        return GradeRequest(self.completion, self.example.fields, prompt=self.example.prompt)


_Tried = tuple[Trial, Grade]


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """What the grader did on real rows. `notes` and `warnings` are lines for people.

    `means`: mean reward by kind of text, where one was graded. `audit` is None where there was none.
    """

    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    means: Mapping[TextKind, float]
    audit: AuditReport | None = None


def check_grader(
    config: GraderConfig,
    examples: Sequence[Example],
    references: Sequence[str | None],
    n: int = 8,
    rows: Sequence[Example] | None = None,
    opener: Callable[..., Grader] = open_grader,
    columns: Mapping[str, str] | None = None,
) -> PreflightReport:
    """Grade the first `n` rows: each row's reference (where it has one), an empty completion, a junk completion.

    The keys that templates name are looked for in all `rows` (None: in these `n`). `opener` opens the grader.

    Raises UsageError where the grader does not load, and UsageErrors where a template names a key that a row lacks, or
    where the grader fails on every text that it was tried with, `further_trials` among them. Where it fails on some,
    that is a warning: rft made the texts up, and a reference is not always a completion. Then comes the short audit.
    """
    # One process is enough for a few grades and starts faster.
    alone = config.model_copy(update={"workers": 1})
    if is_spec(alone) and (missing := missing_keys(alone, examples[:n] if rows is None else rows)):
        raise UsageErrors(missing)
    shape = shape_of(examples if rows is None else rows, columns or {})
    with opener(alone, log_path=None, rows=shape) as grader:
        notes = [
            f"scorer: {grader.signature} of {config.shown}",
            *(f"scorer: {note}" for note in grader.notes),
        ]
        if grader.needs_ids:
            notes.append(
                "scorer: takes completion_ids, which only a model's completions have: it was not tried"
            )
            return PreflightReport(tuple(notes), (), {})
        tried = _try(grader, examples[:n], references[:n])
        _raise_failures(tried)
        report = _report(notes, tried)
        # Where a grade ran into the time limit, each one of an audit might.
        audited = None if _slow(tried) else brief_audit(grader, config, examples[:n], references[:n])
        if audited is None:
            return report
        return replace(report, warnings=(*report.warnings, *warnings_of(audited)), audit=audited)


def _try(grader: Grader, examples: Sequence[Example], references: Sequence[str | None]) -> list[_Tried]:
    trials = first_trials(examples, references)
    # Judges grade all side by side, and cost: nothing further is tried.
    if grader.stats.judges is not None:
        return list(zip(trials, grader.grade([trial.request() for trial in trials]), strict=True))
    tried: list[_Tried] = []
    for trial in trials:
        tried.append((trial, grader.grade([trial.request()])[0]))
        if _slow(tried) >= _MOST_SLOW:
            return tried
    if any(grade.status == "graded" for _, grade in tried):
        return tried
    for pair in further_trials(examples, references, lambda trial: grader.grade([trial.request()])[0]):
        tried.append(pair)
        if pair[1].status == "graded" or _slow(tried) >= _MOST_SLOW:
            break
    return tried


def _slow(tried: Sequence[_Tried]) -> int:
    return sum(grade.error is not None and grade.error.kind in _SLOW for _, grade in tried)


def _raise_failures(tried: Sequence[_Tried]) -> None:
    """Where no text could be graded: raise one problem for each different failure, with its first row."""
    if any(grade.error is None or grade.error.kind in _OF_THE_TEXT for _, grade in tried):
        return
    problems: dict[str, UsageError] = {}
    for trial, grade in tried:
        if grade.error is not None and grade.error.message not in problems:
            message = f"{grade.error.message} (grading the {trial.kind} of {trial.example.source})"
            fix = _fix(grade.error.kind, grade.error.message, trial)
            problems[grade.error.message] = UsageError(message, fix)
    if problems:
        raise UsageErrors(list(problems.values())[:_SHOWN])


def _fix(kind: str, message: str, trial: Trial) -> str:
    keys = ", ".join(list(trial.example.fields)[:12])
    if kind == "timeout":
        return "make it faster, or raise grader.timeout_s"
    if kind.startswith("judge_"):
        return "see what the judge writes: rft grade shows each row's error"
    if kind == "bad_value":
        return "return a finite number, a bool, a dict with 'reward', or None"
    if "KeyError" in message:
        return f"the row has the keys {keys}"
    if trial.kind == "reference":
        return f"correct the scorer, or this row (its keys: {keys}): rft grade --gold FILE shows more"
    return f"give such a completion a low reward: a model will write the like (the row's keys: {keys})"


def _report(notes: list[str], tried: Sequence[_Tried]) -> PreflightReport:
    rewards: dict[TextKind, list[float]] = {}
    for trial, grade in tried:
        if grade.reward is not None:
            rewards.setdefault(trial.kind, []).append(grade.reward)
    means = {kind: fmean(found) for kind, found in rewards.items()}
    if "reference" in means:
        count = counted(len(rewards["reference"]), "reference")
        notes.append(f"scorer: {count} graded, mean reward {means['reference']:.2f}")
    if "junk completion" in means:
        notes.append(f"scorer: junk completions get {means['junk completion']:.2f}")
    warnings = [*_failing(tried), *_odd_rewards(tried, means)]
    return PreflightReport(tuple(notes), tuple(warnings), means)


def _odd_rewards(tried: Sequence[_Tried], means: Mapping[TextKind, float]) -> list[str]:
    warnings = []
    if tried and all(grade.status == "skipped" for _, grade in tried):
        warnings.append(
            f"scorer: returned None for all of {len(tried)} completions: is a return missing? None means that one "
            "can't be graded, and nothing can be learned from it"
        )
    if "reference" not in means:
        return warnings
    kinds: tuple[TextKind, ...] = ("junk completion", "empty completion")
    for kind in kinds:
        if kind in means and means[kind] > means["reference"]:
            warnings.append(
                f"scorer: {kind}s get {means[kind]:.2f}, more than references ({means['reference']:.2f})"
            )
    rewards = {grade.reward for _, grade in tried if grade.reward is not None}
    if len(rewards) == 1 and any(kind in means for kind in kinds):
        warnings.append(
            f"scorer: every completion got the same reward ({rewards.pop():g}): nothing to learn from if a model's do"
        )
    return warnings


def _failing(tried: Sequence[_Tried]) -> list[str]:
    """The kinds of text on which the grader fails, one line for each different reason."""
    kinds: dict[str, list[TextKind]] = {}
    examples: dict[str, str] = {}
    for trial, grade in tried:
        if grade.error is not None and not any(trial.kind in found for found in kinds.values()):
            # One line of code is one reason.
            reason = grade.error.message.partition(": ")[0] + grade.error.kind
            kinds.setdefault(reason, []).append(trial.kind)
            examples.setdefault(reason, f"{grade.error.message} ({trial.example.source})")
    advice = (
        "failed grades teach nothing, and too many stop a job: give a text that can't be read a low reward"
    )
    return [
        f"scorer: fails on {_listed(found)}: {examples[reason]}; {advice}" for reason, found in kinds.items()
    ]


def _listed(names: Sequence[str]) -> str:
    words = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def first_trials(examples: Sequence[Example], references: Sequence[str | None]) -> list[Trial]:
    """What every job tries: each row's reference (where it has one), an empty and a junk completion."""
    trials = []
    for example, reference in zip(examples, references, strict=True):
        if reference is not None:
            trials.append(Trial("reference", example, reference))
        trials += [Trial("empty completion", example, ""), Trial("junk completion", example, JUNK)]
    return trials


def further_trials(
    examples: Sequence[Example], references: Sequence[str | None], grade: Callable[[Trial], Grade]
) -> Iterator[tuple[Trial, Grade]]:
    """Other forms, tried where none of the first texts was graded: a sentence, a worked answer, and JSON objects.

    The keys that the scorer misses in an object are put into it: `KeyError: 'city'` says what it wants to read.
    """
    for example, reference in list(zip(examples, references, strict=True))[:_ROWS]:
        answer = "yes" if reference is None else reference
        plain = Trial("plain sentence", example, _PLAIN.format(answer))
        worked = Trial("worked answer", example, _WORKED.format(answer))
        yield from ((trial, grade(trial)) for trial in (plain, worked))
        keys, value = ["answer"], _value(answer)
        # 98, and "98"
        for each in (value,) if value == answer else (value, answer):
            while len(keys) <= _MOST_KEYS:
                text = json.dumps(dict.fromkeys(keys, each), ensure_ascii=False)
                trial = Trial("JSON object", example, text)
                found = grade(trial)
                yield trial, found
                missing = None if found.error is None else _MISSING_KEY.search(found.error.message)
                if missing is None or missing[1] in keys:
                    break
                keys.append(missing[1])


def _value(text: str) -> Any:
    """The JSON value that the text spells (98, true, an object), or the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
