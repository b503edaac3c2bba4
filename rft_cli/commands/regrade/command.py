"""`rft grade --run RUN`: a run's stored completions under another scorer, without a model; reads only."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rft_cli.commands import terminal
from rft_cli.commands.grading.output import Display
from rft_cli.commands.regrade.retarget import no_job, retarget
from rft_cli.commands.regrade.rows import read_rows
from rft_cli.commands.resume.locate import find_moved_files
from rft_cli.commands.resume.plan import began_with
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.signals import signals_interrupt
from rft_cli.config import RunConfig
from rft_cli.config.load import load_own
from rft_cli.config.scorers import split_target
from rft_cli.config.suggest import counted
from rft_cli.errors import RftError, RunFailed, UsageError
from rft_cli.grading.pool.scorer_grader import worker_count
from rft_cli.grading.protocol import Grader
from rft_cli.grading.shape import shape_of
from rft_cli.grading.source import read_sources, sha256_of_all
from rft_cli.grading.stats import GraderStats, too_many_failures
from rft_cli.runs import Run
from rft_cli.types import Example, GradeRequest
from rft_cli.view.completions import Completion, SampleFile, Split, completions_in, files_of
from rft_cli.view.reading import ReadProblems
from rft_cli.view.regraded import Ranking, Regraded, Rows, StepScores, changed_rows, ranking, step_scores

SCHEMA = "rft.regrade/1"
_AT_A_TIME = 256


@dataclass(frozen=True, slots=True)
class RegradedRun:
    """What the new grader says of a run's completions. `next`: the command that trains with it, and why that one;
    None where the grades failed or the grader is the old one, which `why` says then.

    `old` and `new` name the graders, with the SHA-256 of their files; `stats` count the new grades.
    """

    run: Run
    old: Mapping[str, Any]
    new: Mapping[str, Any]
    steps: Sequence[StepScores]
    ranking: Ranking
    rows: Rows
    stats: GraderStats
    next: str | None
    why: str
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        order = self.ranking.to_json()
        best = order["best"]
        best["saved"] = best["new"] == 0 or best["new"] in self.run.checkpoints()
        return {
            "schema": SCHEMA,
            "status": "ok",
            "run": str(self.run.path),
            "graders": {"old": dict(self.old), "new": dict(self.new)},
            "grades": self.stats.to_json(),
            "steps": [step.to_json() for step in self.steps],
            "ranking": order,
            "rows": self.rows.to_json(),
            "next": self.next,
            "why": self.why,
            "notes": list(self.notes),
        }


def grade_run(ref: str, settings: Settings, *, rollouts: bool, output: Output) -> None:
    """Grade the validation and test completions of a run again, with `rollouts` the training ones too, and print both
    graders' figures.

    Raises UsageError where its rows are gone or have changed; RunFailed, after the figures, where too many grades
    failed.
    """
    run = Run.open(ref, settings.overrides.get("output_dir") or "runs")
    config, moved = _config(run, settings)
    terminal.need_stdout()
    problems = ReadProblems()
    files = _files(run, rollouts)
    if not files:
        raise UsageError(f"{run.path} has no completions yet", "let the job sample its baseline first")
    rows = read_rows(run, config, list(dict.fromkeys(file.split for file in files)))
    display = Display(config.grader.shown or "", terminal_output(output))
    with display, signals_interrupt(signal.SIGINT), _open(config, rows) as grader:
        if not output.quiet:
            display.note(grader.notes)
        graded, strangers = _grade(grader, files, rows, problems, display)
        notes = [*moved, *_notes(strangers), *problems.texts]
        outcome = _outcome(run, config, settings, graded, grader, notes)
    limit = config.grader.max_failure_rate
    failed = _failed(grader.stats, limit)
    with terminal.results():
        if output.json:
            terminal.print_json(outcome.to_json(), failed)
        else:
            from rft_cli.console.regrade_tables import print_regraded

            print_regraded(outcome)
    if failed is not None:
        raise failed


def terminal_output(output: Output) -> Any:
    """How progress is drawn: on standard error, since standard output gets one table or document."""
    from rft_cli.commands.grading.options import OutputOptions

    return OutputOptions(
        rows=False, openai_run=False, summary_file=None, quiet=output.quiet, events=output.progress == "json"
    )


def _config(run: Run, settings: Settings) -> tuple[RunConfig, Sequence[str]]:
    """The run's settings under those given now; files that were moved with the run are found by their hash."""
    another = settings.overrides.get("grader.path") is not None
    sets = [*(["grader.spec=null", "grader.folder=null"] if another else []), *settings.sets]
    file = settings.file or str(run.path / "config.yaml")
    loaded = replace(settings, file=file, sets=sets).load(())
    info = run.info
    moved = find_moved_files(loaded.config, began_with(info, load_own(run.path).config), run, info)
    if moved.config.grader.shown is None:
        raise UsageError("no grader is set", "give a scorer with --reward-model scorer.py")
    return moved.config, moved.notes


def _files(run: Run, rollouts: bool) -> list[SampleFile]:
    splits: tuple[Split, ...] = ("validation", "test", *(("training",) if rollouts else ()))
    best = int(run.info.get("best_step") or 0)
    return [file for split in splits for file in files_of(run.path, split, best)]


def _open(config: RunConfig, rows: Mapping[Split, Sequence[Example]]) -> Grader:
    """The grader; what it prints is not shown: thousands of completions would print the same."""
    # Of all kinds; only reward models load torch.
    from rft_cli.training.graders import open_grader

    examples = [example for found in rows.values() for example in found]
    settings = config.grader.model_copy(update={"workers": worker_count(config.grader, spare=0)})
    shape = shape_of(examples, config.data.columns)
    grader = open_grader(settings, log_path=None, seed=config.seed, rows=shape)
    if grader.needs_ids:
        grader.close()
        raise UsageError(
            f"{config.grader.shown}: takes completion_ids, which a run does not store",
            "have it take the completion's text",
        )
    return grader


def _grade(
    grader: Grader,
    files: Sequence[SampleFile],
    rows: Mapping[Split, Sequence[Example]],
    problems: ReadProblems,
    display: Display,
) -> tuple[dict[tuple[Split, int], list[Regraded]], dict[Split, int]]:
    """Each file's completions with new grades; and how many were left out because the rows hold no such prompt."""
    graded: dict[tuple[Split, int], list[Regraded]] = {}
    strangers: dict[Split, int] = {}
    for file in files:
        examples = rows[file.split]
        whole = list(completions_in(file, problems))
        known = [c for c in whole if _belongs(c, examples)]
        if len(known) < len(whole):
            strangers[file.split] = strangers.get(file.split, 0) + len(whole) - len(known)
        found = graded.setdefault((file.split, file.step), [])
        for first in range(0, len(known), _AT_A_TIME):
            part = known[first : first + _AT_A_TIME]
            requests = [_request(completion, examples[completion.row]) for completion in part]
            try:
                grades = grader.grade(requests)
            except RunFailed as error:
                # A judge's budget is spent: what was graded until then counts.
                problems.add(file.file, error.message)
                return graded, strangers
            found += [Regraded(c, grade) for c, grade in zip(part, grades, strict=True)]
            display.progress(grader.stats)
    return graded, strangers


def _belongs(completion: Completion, examples: Sequence[Example]) -> bool:
    """Whether this completion is of the row that has its number now."""
    if not 0 <= completion.row < len(examples):
        return False
    example = examples[completion.row]
    return example.id == completion.id and example.prompt_text() == completion.prompt


def _request(completion: Completion, example: Example) -> GradeRequest:
    metadata = {"completion_tokens": completion.tokens, "truncated": completion.truncated}
    return GradeRequest(completion.text, example.fields, metadata, example.asked(), place=str(example.source))


def _notes(strangers: Mapping[Split, int]) -> list[str]:
    return [
        f"{counted(count, f'{split} completion')} left out: the rows of today have no such prompt at their place "
        "(the run was continued with other rows)"
        for split, count in strangers.items()
    ]


def _outcome(
    run: Run,
    config: RunConfig,
    settings: Settings,
    graded: Mapping[tuple[Split, int], Sequence[Regraded]],
    grader: Grader,
    notes: list[str],
) -> RegradedRun:
    info = run.info
    then = (info.get("hashes") or {}).get("grader")
    old = {"grader": str((info.get("settings") or {}).get("grader.path") or "grader.spec"), "sha256": then}
    new = {"grader": config.grader.shown, "sha256": sha256_of_all(read_sources(config.grader))}
    same = then == new["sha256"] and _function(old["grader"]) == _function(new["grader"])
    if same:
        notes = ["the grader's file is the one that the run was trained with", *notes]
    steps = step_scores(graded)
    best = int(info.get("best_step") or 0)
    split: Split = "test" if ("test", best) in graded and best else "validation"
    order = ranking(steps)
    typed = {key for key, value in settings.overrides.items() if value is not None}
    unedited = same and not settings.sets and typed <= {"grader.path", "output_dir"}
    nothing = no_job(grader.stats, config.grader.max_failure_rate, unedited)
    choice = nothing or retarget(run, config, settings, steps)
    rows = changed_rows(graded, split, best)
    return RegradedRun(run, old, new, steps, order, rows, grader.stats, choice.command, choice.why, notes)


def _clean(text: str) -> str:
    from rft_cli.console.text import clean

    return clean(text)


def _function(grader: Any) -> str | None:
    return split_target(str(grader))[1]


def _failed(stats: GraderStats, most: float) -> RftError | None:
    if stats.failure_rate > most:
        return too_many_failures(stats.failure_rate, stats.total, most, stats.reasons())
    if stats.failed:
        reason, left = stats.reasons()[0], counted(stats.failed, "failed grade")
        text = f"{left} of {stats.total:,} left out: {reason.count} × {reason.kind}: {reason.message}"
        print(f"warning: {_clean(text)}", file=sys.stderr, flush=True)
    return None
