"""What several commands share: their flags, and standard output kept for results alone."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rft_cli.errors import RftError, RunFailed, UsageError, UsageErrors

DEBUG_KEY = "rft.debug"


def _remember_debug(context: typer.Context, value: bool) -> bool:
    # The group turns errors into messages after the command's own context is gone: `meta` is shared with it.
    context.meta[DEBUG_KEY] = value
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
Sandbox = Annotated[
    str | None,
    typer.Option(
        "--sandbox",
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
Resume = Annotated[
    str | None,
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
    """A gate that compares with NaN would always be met."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
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
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the result.")]
Debug = Annotated[
    bool,
    typer.Option("--debug", help="Show the traceback of an error.", callback=_remember_debug, is_eager=True),
]


def one_config(argument: str | None, option: str | None) -> str | None:
    """The YAML file, given as an argument or with --config; UsageError where both name one."""
    if argument is not None and option is not None:
        raise UsageError(f"two configuration files: {argument} and --config {option}", "give one of them")
    return argument if option is None else option


def variables(names: list[str] | None) -> list[str] | None:
    """The names of --grader-env; raises UsageErrors where the environment lacks some."""
    problems = [
        UsageError(f"--grader-env {name}: there is no such variable", f"set it: export {name}=...")
        for name in names or []
        if name not in os.environ
    ]
    if problems:
        raise UsageErrors(problems)
    return names or None


def print_json(document: Mapping[str, Any], error: RftError | None = None) -> None:
    """The command's one JSON document, on standard output; numbers that JSON does not have become null.

    `error`: what the command is about to raise; the document tells it under `error`.
    """
    from rft_cli.runs.files import finite

    if error is not None:
        document = {**document, "error": error.to_json()}
        error.in_document = True
    print(json.dumps(finite(document), indent=2))


def check_writable(file: str | None) -> None:
    """Raise UsageError where a result file that is written at the end could not be."""
    if file is None:
        return
    folder = Path(file).absolute().parent
    if Path(file).is_dir() or file.endswith(os.sep):
        raise UsageError(f"{file}: is a folder", f"name a file in it: {Path(file, 'summary.json')}")
    if not folder.is_dir():
        raise UsageError(f"{file}: there is no folder {folder}", "name a file in a folder that is there")
    if not os.access(file if Path(file).exists() else folder, os.W_OK):
        raise UsageError(f"{file}: can't be written: no permission", "name a file that you may write")


def write_json(file: str, document: Mapping[str, Any]) -> None:
    """The document into a file, in one step; numbers that JSON does not have become null.

    A device, a pipe or a link is written as it is: the step would put a file in its place.
    """
    from rft_cli.runs.files import finite, write_atomic

    path, text = Path(file), json.dumps(finite(document), indent=2) + "\n"
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_text(text, encoding="utf-8")
        else:
            write_atomic(path, text)
    except OSError as error:
        raise UsageError(f"{file}: can't be written: {error.strerror or error}") from error


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send whatever is written to standard output inside to standard error: by Python, by C code, by children.

    Libraries print while they train. Results are printed after the block, so standard output holds nothing else.
    """
    sys.stdout.flush()
    try:
        saved = os.dup(1)  # not inheritable: a worker that outlives us does not hold the reader of our pipe
        os.dup2(2, 1)
    except OSError:  # one of them is closed
        saved = None
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if saved is not None:
            sys.stderr.flush()
            os.dup2(saved, 1)
            os.close(saved)


@contextlib.contextmanager
def results() -> Iterator[None]:
    """Print results inside: a reader that is gone (`| head`) ends the printing quietly, not the command."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        forget_stdout()
    except OSError as error:
        raise cannot_print(error) from None


def cannot_print(error: OSError) -> RunFailed:
    """Standard output can't be written, for another reason than that nobody reads: a full disk, say."""
    forget_stdout()
    return RunFailed(f"standard output can't be written: {error.strerror or error}")


def forget_stdout() -> None:
    """Send standard output nowhere: its reader is gone, and Python must not complain of that at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def rank() -> int:
    """This process's number where another launcher (accelerate, torchrun) started several of us; else 0."""
    said = os.environ.get("RANK", "")
    return int(said) if said.isdecimal() else 0


def world_size() -> int:
    """How many of us that launcher started; 1 without one. Raises UsageError where it does not say that."""
    from rft_cli.config.launcher import world_size_in

    return world_size_in(os.environ)
