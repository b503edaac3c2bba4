"""`rft grade`: rows with completions in, the same lines with a grade out; no model, no torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rft_cli.commands import flags, terminal
from rft_cli.commands.grading.options import OutputOptions
from rft_cli.commands.settings import Output, Settings
from rft_cli.commands.terminal import need_stdout
from rft_cli.errors import UsageError

if TYPE_CHECKING:
    from rft_cli.config.schema import RunConfig

FilesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE",
        help="Rows with completions: JSONL, CSV, Parquet. None, or -: JSONL from standard input.",
    ),
]
Field = Annotated[str, typer.Option("--field", metavar="KEY", help="The key that holds the model's text.")]
Workers = Annotated[str | None, typer.Option("--workers", metavar="N", help="Worker processes, or auto.")]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="S", help="Seconds that one grade may take.")
]
Summary = Annotated[
    bool, typer.Option("--summary", help="Print a summary as JSON in place of the rows (the same as --json).")
]
SummaryFile = Annotated[
    str | None,
    typer.Option(
        "--summary-file", metavar="FILE", help="Write the summary, or the audit, as JSON to FILE too."
    ),
]
Gold = Annotated[
    bool, typer.Option("--gold", help="Grade each row's own reference: it should get full marks.")
]
Audit = Annotated[bool, typer.Option("--audit", help="Test the grader itself, on rows that have references.")]
AuditRows = Annotated[
    int | None,
    typer.Option("--audit-rows", metavar="N", min=1, help="Rows that --audit takes. Default: 20."),
]
TrainingFile = Annotated[
    list[str] | None, typer.Option("-t", "--training-file", metavar="FILE", help="Rows for --audit, as FILE.")
]
ValidationFile = Annotated[
    list[str] | None,
    typer.Option("-v", "--validation-file", metavar="FILE", help="Rows for --audit, as FILE."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the summary, or the audit, as one JSON document.")]
RunOption = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Grade a run's stored completions again: its grader against this one.",
        autocompletion=flags.complete_run,
    ),
]
Rollouts = Annotated[
    bool,
    typer.Option("--rollouts", help="With --run: the completions of training too, not only validations."),
]
Shape = Annotated[
    Literal["rows", "openai-run"],
    typer.Option("--format", help="Output: the rows, or what OpenAI's /graders/run answers for each."),
]


def grade(
    files: FilesArgument = None,
    reward_model: flags.RewardModel = None,
    from_openai: flags.FromOpenAI = None,
    run: RunOption = None,
    rollouts: Rollouts = False,
    field: Field = "completion",
    gold: Gold = False,
    shape: Shape = "rows",
    audit: Audit = False,
    audit_rows: AuditRows = None,
    training_file: TrainingFile = None,
    validation_file: ValidationFile = None,
    summary: Summary = False,
    summary_file: SummaryFile = None,
    min_reward: flags.MinReward = None,
    workers: Workers = None,
    timeout: Timeout = None,
    grader_env: flags.GraderEnv = None,
    limits: flags.Limits = None,
    config: flags.ConfigFile = None,
    sets: flags.Sets = None,
    output_dir: flags.OutputDir = None,
    json: Json = False,
    quiet: flags.Quiet = False,
    progress: flags.Progress = "auto",
    debug: flags.Debug = False,
) -> None:
    """Grade completions with a scorer: JSON lines in, the same lines in order with a "grade" out.

    Examples:

    \b
    rft grade --reward-model scorer.py completions.jsonl > graded.jsonl
    rft grade --reward-model scorer.py --gold val.jsonl --summary
    rft grade --reward-model scorer.py --audit val.jsonl
    generate | rft grade --reward-model scorer.py --min-reward 0.8 > out.jsonl
    rft grade --run latest --reward-model new.py

    Exit codes: 0 done, 1 below --min-reward or a problem in the audit, 2 wrong
    usage or rows, 3 too many failed grades, 128 + the signal when interrupted.
    """
    flags.check_progress(progress, quiet)
    overrides: dict[str, Any] = {
        "grader.path": _one_of(reward_model, from_openai),
        "grader.workers": workers,
        "grader.timeout_s": timeout,
        "grader.limits": limits,
        "grader.env": flags.variables(grader_env),
        "data.train": flags.files(training_file),
        "data.validation": flags.files(validation_file),
        "output_dir": output_dir,
    }
    given = Settings(config, overrides, sets or [])
    if run or rollouts:
        own = (files, field != "completion", gold, shape != "rows", audit, audit_rows)
        others = (*own, summary_file, min_reward, from_openai)
        _grade_run(run, given, others, Output(json or summary, quiet, progress), rollouts)
        return
    settings = _settings(given)
    output = OutputOptions(
        not (summary or json), shape == "openai-run", summary_file, quiet, progress == "json"
    )
    grades = gold or min_reward is not None or field != "completion"
    _check_audit(audit, grades, audit_rows, training_file, validation_file)
    completion = None if gold else field
    _audit_or_grade(settings, files or [], audit_rows if audit else 0, completion, min_reward, output)


def _audit_or_grade(
    config: RunConfig,
    files: list[str],
    audited: int | None,
    field: str | None,
    min_reward: float | None,
    output: OutputOptions,
) -> None:
    """Audit the grader on so many rows, None for the default; 0 grades the completions under `field`."""
    terminal.check_writable(output.summary_file)
    if audited == 0:
        _grade(config, files, field, min_reward, output)
    else:
        _audit(config, files, audited, output)


def _check_audit(audit: bool, grades: bool, *of_audit: object) -> None:
    """Raise UsageError for flags of --audit without it, or with it for flags of completions that are graded."""
    if audit and grades:
        raise UsageError("--audit takes no --gold, --min-reward or --field", "it makes its own completions")
    if not audit and any(value is not None for value in of_audit):
        raise UsageError("-t, -v and --audit-rows go with --audit", "name the rows to grade as FILE")


def _one_of(reward_model: Any, from_openai: str | None) -> Any:
    """Of a job, grading takes the grader, which is found in the file itself."""
    if reward_model and from_openai is not None:
        raise UsageError("--reward-model and --from-openai name two graders", "give one of them")
    return reward_model or from_openai or None


_OF_ROWS = ("FILE", "--field", "--gold", "--format", "--audit", "--audit-rows", "--summary-file", "--min-reward",
            "--from-openai")  # fmt: skip
"""What has no meaning beside --run."""


def _grade_run(
    runs: list[str] | None, settings: Settings, of_rows: tuple[Any, ...], output: Output, rollouts: bool
) -> None:
    """`of_rows`: the values of `_OF_ROWS`; None, false or empty where they were not given."""
    if not runs:
        raise UsageError("--rollouts goes with --run", "name the run with --run RUN")
    others = " ".join(runs)
    named = flags.one_run(
        runs, "--run", f"grade one run again at a time; to compare them: rft compare {others}"
    )
    wrong = [name for name, value in zip(_OF_ROWS, of_rows, strict=True) if _is_given(value)]
    if wrong:
        raise UsageError(
            f"--run takes no {', '.join(wrong)}", "it grades the completions that the run has stored"
        )
    from rft_cli.commands.regrade.command import grade_run

    grade_run(str(named), settings, rollouts=rollouts, output=output)


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value != []


def _settings(settings: Settings) -> RunConfig:
    config = settings.load().config
    if config.grader.shown is None:
        raise UsageError("no grader is set", "give a scorer with --reward-model scorer.py")
    need_stdout()
    return config


def _audit(config: RunConfig, files: list[str], rows: int | None, output: OutputOptions) -> None:
    from rft_cli.commands.grading.audit import audit_grader

    audit_grader(
        config, files, rows=rows, json=not output.rows, quiet=output.quiet, events=output.events,
        summary_file=output.summary_file,
    )  # fmt: skip


def _grade(
    config: RunConfig, files: list[str], field: str | None, min_reward: float | None, output: OutputOptions
) -> None:
    from rft_cli.commands.grading.rows import grade_rows

    if not files and sys.stdin is None:
        raise UsageError("there is no standard input to read rows from", "name a FILE")
    if not files and sys.stdin.isatty():
        message = "reading rows from the terminal: end them with Ctrl-D, or name a FILE"
        print(message, file=sys.stderr, flush=True)
    grade_rows(config, files or ["-"], field, min_reward, output)
