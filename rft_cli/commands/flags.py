"""The flags that several commands share."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from rft_cli.errors import UsageError, UsageErrors

DEBUG_KEY = "rft.debug"
PROGRESS_KEY = "rft.progress"


def _remember_debug(context: typer.Context, value: bool) -> bool:
    # The group prints errors after the command's own context is closed; both share `meta`.
    context.meta[DEBUG_KEY] = value
    return value


def _remember_progress(context: typer.Context, value: str) -> str:
    # errors are printed by the group, too
    context.meta[PROGRESS_KEY] = value
    return value


def complete_run(incomplete: str) -> list[str]:
    """Names of runs for shell completion."""
    from rft_cli.runs.find import list_runs

    names = ["latest", *(run.path.name for run in list_runs(Path("runs")))]
    return [name for name in names if name.startswith(incomplete)]


TrainingFile = Annotated[
    list[str] | None,
    typer.Option(
        "-t",
        "--training-file",
        metavar="FILE",
        help="Training rows: JSONL, CSV, Parquet, or a data set of the hub (openai/gsm8k:train). Repeatable.",
    ),
]
ValidationFile = Annotated[
    list[str] | None,
    typer.Option(
        "-v",
        "--validation-file",
        metavar="FILE",
        help="Validation rows: the best checkpoint is chosen on them. Repeatable.",
    ),
]
TestFile = Annotated[
    list[str] | None,
    typer.Option(
        "--test",
        metavar="FILE",
        help="Test rows: not used to choose the checkpoint; the final table is theirs. Repeatable.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        metavar="MODEL",
        help="Base model: a directory, a Hugging Face id, a run or an adapter. Default: builtin/tiny.",
    ),
]
RewardModel = Annotated[
    list[str] | None,
    typer.Option(
        "--reward-model",
        metavar="GRADER",
        help="The grader: scorer.py, a spec (.json, .yaml) or a reward model. Several scorers are added up: b.py=0.2.",
    ),
]
Guard = Annotated[
    str | None,
    typer.Option(
        "--guard",
        metavar="GRADER",
        help="A second grader, never trained on: where the reward rises and it falls, the job warns.",
    ),
]
FromOpenAI = Annotated[
    str | None,
    typer.Option(
        "--from-openai",
        metavar="JOB",
        help="A reinforcement fine-tuning job of OpenAI's as JSON: its grader, files and hyperparameters.",
    ),
]
GraderEnv = Annotated[
    list[str] | None,
    typer.Option(
        "--grader-env",
        metavar="NAME",
        help="Let the scorer see this environment variable, though it looks like a secret. Repeatable.",
    ),
]
Limits = Annotated[
    str | None,
    typer.Option(
        "--limits",
        metavar="NAME",
        help="openai: a Python grader gets what OpenAI's get: limits, packages, no files, no network.",
    ),
]
LearningRate = Annotated[
    str | None,
    typer.Option("--learning-rate", metavar="NUMBER", help="Peak learning rate of the policy, or auto."),
]
Epochs = Annotated[
    str | None, typer.Option("--n-epochs", metavar="N", help="Passes over the training rows, or auto.")
]
Algorithm = Annotated[
    str | None,
    typer.Option(
        "--algorithm",
        metavar="NAME",
        help="ppo, grpo, rloo, or sft: learn the rows' references, to warm a model up.",
    ),
]
ConfigArgument = Annotated[
    str | None, typer.Argument(metavar="CONFIG.yaml", help="A YAML file with settings; flags win over it.")
]
ConfigFile = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="A YAML file with settings; flags win over it.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any setting, for example --set ppo.kl_coef=0.02. Repeatable."
    ),
]
Seed = Annotated[
    str | None, typer.Option("--seed", metavar="N", help="Seed of everything random in training.")
]
Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of the run. Default: date, time and model.")
]
OutputDir = Annotated[
    str | None, typer.Option("--output-dir", metavar="DIR", help="Folder in which runs lie. Default: runs.")
]
NumProcesses = Annotated[
    str | None, typer.Option("--num-processes", metavar="N", help="Processes to train with, one a GPU.")
]
ReportTo = Annotated[
    list[str] | None,
    typer.Option(
        "--report-to",
        metavar="TRACKER",
        help="Report to tensorboard, wandb, mlflow or trackio, too. Repeatable.",
    ),
]
Resume = Annotated[
    list[str] | None,
    typer.Option(
        "--resume",
        metavar="RUN",
        help="Continue this run (a name, a path, or latest).",
        autocompletion=complete_run,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="With --resume: go on though settings, files or the model have changed; run.json says so.",
    ),
]


def _finite(value: float | None) -> float | None:
    """The value; BadParameter for NaN, which a gate would always meet."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


MinReward = Annotated[
    float | None,
    typer.Option("--min-reward", metavar="X", help="Exit 1 if the mean reward is below X.", callback=_finite),
]
MinGain = Annotated[
    float | None,
    typer.Option(
        "--min-gain",
        metavar="X",
        help="Exit 1 if the reward's paired difference is below X.",
        callback=_finite,
    ),
]
GateOnOption = Annotated[
    Literal["mean", "low"],
    typer.Option(
        "--gate-on",
        help="What gates look at: the mean, or the low end of its 95 % interval.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Check everything and show what the job would do; train nothing, write nothing."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")
]
Progress = Annotated[
    Literal["auto", "json"],
    typer.Option(
        "--progress",
        help="json: each message and step on standard error is one JSON object a line.",
        callback=_remember_progress,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the result.")]
Debug = Annotated[
    bool,
    typer.Option("--debug", help="Show the traceback of an error.", callback=_remember_debug, is_eager=True),
]


def one_config(argument: str | None, option: str | None) -> str | None:
    """The YAML file, given as an argument or with --config; UsageError if both name one."""
    if argument is not None and option is not None:
        raise UsageError(f"two configuration files: {argument} and --config {option}", "give one of them")
    return argument if option is None else option


def one_run(runs: list[str] | None, flag: str, fix: str) -> str | None:
    """The run that this flag names; UsageError where it was given twice, of which the last would win silently."""
    if runs is not None and len(runs) > 1:
        raise UsageError(f"{flag} was given {len(runs)} times: {', '.join(runs)}", fix)
    return runs[0] if runs else None


def one_resumed(resume: list[str] | None, force: bool) -> str | None:
    """The run of --resume; UsageError for two of them, or for --force without one."""
    run = one_run(resume, "--resume", "resume one run at a time")
    if force and run is None:
        raise UsageError("--force needs --resume", "it resumes a run whose settings or files have changed")
    return run


def check_progress(progress: str, quiet: bool) -> None:
    """Raise UsageError for --progress json together with --quiet."""
    if progress == "json" and quiet:
        raise UsageError(
            "--progress json and --quiet exclude each other",
            "give one of them; --json alone prints the result",
        )


def files(names: list[str] | None) -> str | list[str] | None:
    """The value of a setting that takes one file or a list of them."""
    return names[0] if names and len(names) == 1 else names or None


def variables(names: list[str] | None) -> list[str] | None:
    """The names of --grader-env; raises UsageErrors if the environment lacks some."""
    problems = [
        UsageError(f"--grader-env {name}: there is no such variable", f"set it: export {name}=...")
        for name in names or []
        if name not in os.environ
    ]
    if problems:
        raise UsageErrors(problems)
    return names or None
