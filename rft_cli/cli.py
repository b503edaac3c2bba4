"""The command line: the Typer app, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rft_cli import __version__
from rft_cli.commands.command_line import OneValueEach, asks_for_json
from rft_cli.commands.compare import compare
from rft_cli.commands.create import create
from rft_cli.commands.dashboard import dashboard
from rft_cli.commands.export import export
from rft_cli.commands.flags import DEBUG_KEY, PROGRESS_KEY
from rft_cli.commands.grade import grade
from rft_cli.commands.report import report
from rft_cli.commands.runs import runs
from rft_cli.commands.serve import serve
from rft_cli.commands.show import show
from rft_cli.commands.signals import ignore_signals
from rft_cli.commands.terminal import forget_stdout, is_first_process, repair_streams
from rft_cli.commands.train import train
from rft_cli.commands.try_prompt import try_run
from rft_cli.commands.validate import validate
from rft_cli.errors import Interrupted, RftError, RunFailed, UsageError

JSON_KEY = "rft.json"
HELP_WIDTH = 120
"""Columns of help on a terminal that has them."""


class ErrorsToExitCodes(TyperGroup):
    """Runs a command and turns every error into one message and an exit code.

    Under `--json` standard output gets the error too, as one JSON object.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[JSON_KEY] = asks_for_json(args)
        with _json_of_wrong_usage(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _json_of_wrong_usage(ctx):
                return super().invoke(ctx)
        except RftError as error:
            _show_traceback(ctx)
            if not _print_event(ctx, error):
                _print_error(error)
            _print_json(ctx, error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _show_traceback(ctx)
            interrupted = Interrupted(signal.SIGINT, "interrupted")
            if not _print_event(ctx, interrupted):
                _say("interrupted")
            _print_json(ctx, interrupted)
            raise typer.Exit(128 + signal.SIGINT) from None
        except BrokenPipeError:
            forget_stdout()
            raise typer.Exit(0) from None
        except Exception as error:
            # wrong usage, said by Typer; --help and Exit
            if _is_typers(error):
                raise
            said = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__
            fix = "run with --debug for the traceback"
            internal = RunFailed(f"internal error: {reason}", fix)
            if not _show_traceback(ctx) and not _print_event(ctx, internal):
                _say(f"internal error: {reason} ({fix})")
            _print_json(ctx, internal)
            raise typer.Exit(internal.exit_code) from None


def _is_typers(error: Exception) -> bool:
    return type(error).__module__.startswith("typer")


@contextlib.contextmanager
def _json_of_wrong_usage(ctx: Any) -> Iterator[None]:
    """Print as JSON what Typer finds wrong with a command line; it prints the message itself."""
    try:
        yield
    except Exception as error:
        message = getattr(error, "format_message", None)
        if _is_typers(error) and message is not None:
            _print_json(ctx, _wrong_usage(error, message()))
        raise


def _wrong_usage(error: Any, message: str) -> UsageError:
    option = getattr(error, "option_name", None)
    params = getattr(getattr(error, "param", None), "opts", None)
    named = option or (max(params, key=len) if params else None)
    command = getattr(getattr(error, "ctx", None), "command_path", "rft")
    wrong = UsageError(message, f"see {command} --help")
    wrong.where = named if named is not None and named.startswith("-") else None
    return wrong


def _print_json(ctx: Any, error: RftError) -> None:
    if not ctx.meta.get(JSON_KEY) or error.in_document or not is_first_process():
        return
    try:
        print(json.dumps({"error": error.to_json()}, indent=2), flush=True)
    except OSError:
        # no reader, or a full disk: exit code and standard error say enough
        forget_stdout()


def _say(text: str, indent: str = "  ") -> None:
    # names and data in messages may hold anything
    if not text.replace("\n", "").isprintable():
        from rft_cli.console.text import clean

        text = clean(text)
    if is_first_process():
        # Indented, so that no name or data in a message can look like a message of its own.
        text = re.sub(r"\n(?! )", f"\n{indent}", text)
        print(_wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def _wrapped(text: str) -> str:
    from rft_cli.config.suggest import terminal_width, wrapped

    return wrapped(text, terminal_width())


def _print_event(ctx: Any, error: RftError) -> bool:
    """Print the error as a JSON line where --progress json was given; whether it was."""
    wanted = bool(ctx.meta.get(PROGRESS_KEY) == "json")
    if wanted and is_first_process():
        print(json.dumps({"event": "Failed", **error.to_json()}), file=sys.stderr, flush=True)
    return wanted


def _print_error(error: RftError) -> None:
    for problem in error.problems:
        _say(f"error: {problem.message}")
        if problem.fix:
            _say(f"  fix: {problem.fix}", indent=" " * 4)


def _show_traceback(ctx: Any) -> bool:
    wanted = bool(ctx.meta.get(DEBUG_KEY)) or os.environ.get("RFT_DEBUG", "") not in ("", "0")
    if wanted and is_first_process():
        traceback.print_exc()
    return wanted


def _version(value: bool) -> None:
    if value:
        print(f"rft {__version__}")
        raise typer.Exit


def _present_name(option: str) -> str:
    # OpenAI's parameter names are written with underscores: --n_epochs is --n-epochs. --limits was --sandbox.
    name = option.replace("_", "-")
    return "limits" if name == "sandbox" else name


app = typer.Typer(
    cls=ErrorsToExitCodes,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={
        "token_normalize_func": _present_name,
        "help_option_names": ["-h", "--help"],
        "max_content_width": HELP_WIDTH,
    },
)


@app.callback()
def rft(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Reinforcement fine-tuning for open-weight language models: a JSONL file and a scorer become a better model."""


app.command("create", cls=OneValueEach, short_help="Train a model on your rows with your scorer.")(create)
app.command("train", cls=OneValueEach, short_help="Run or continue the job of a YAML file.")(train)
app.command("grade", cls=OneValueEach, short_help="Grade completions in a JSONL file or pipe.")(grade)
app.command("validate", cls=OneValueEach, short_help="Check a job, or measure a model or a run.")(validate)
app.command("export", cls=OneValueEach, short_help="Take the tuned model out of a run.")(export)
app.command("serve", cls=OneValueEach, short_help="Serve a run or a model to OpenAI's clients.")(serve)
app.command("try", cls=OneValueEach, short_help="Ask a run's base and its best model one prompt.")(try_run)
app.command("runs", cls=OneValueEach, short_help="List the runs of a folder.")(runs)
app.command("show", cls=OneValueEach, short_help="Show a run: result, curves, diagnosis.")(show)
app.command("compare", cls=OneValueEach, short_help="Compare two to five runs.")(compare)
app.command("report", cls=OneValueEach, short_help="Write a report of runs: HTML or Markdown.")(report)
app.command("dashboard", cls=OneValueEach, short_help="Look at runs in a browser.")(dashboard)


def main() -> None:
    """The `rft` command."""
    repair_streams()
    # Read once, when torch loads its threads: waiting threads that spin make a job many times slower on cores it has
    # to share (measured: 5.6 s for 0.9 s of sampling, with one other busy process on two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    # rft sends no telemetry; libraries under it would.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        app(prog_name="rft")
    except SystemExit as end:
        # After an exit by signal, the same signal must not change the exit code.
        if isinstance(end.code, int) and end.code > 128:
            ignore_signals()
        raise
