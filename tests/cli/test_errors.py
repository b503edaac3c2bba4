"""Whatever leaves a command becomes one message and the documented exit code."""

import pytest
import typer
from typer.testing import CliRunner

from rft_cli.cli import ErrorsToExitCodes
from rft_cli.errors import GateNotMet, Interrupted, RunFailed, UsageError, UsageErrors


def ended(error, *flags):
    """A command that takes --json ends with this error."""
    app = typer.Typer(cls=ErrorsToExitCodes, rich_markup_mode=None)

    @app.callback()
    def root():
        pass

    @app.command()
    def fail(json: bool = False):
        raise error

    return CliRunner().invoke(app, ["fail", *flags])


def end_with(error):
    found = ended(error)
    assert found.stdout == ""
    return found.exit_code, found.stderr


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("a:1: bad", "do this"), 2, "error: a:1: bad\n  fix: do this\n"),
        (UsageErrors([UsageError("one", "x"), UsageError("two")]), 2, "error: one\n  fix: x\nerror: two\n"),
        (RunFailed("out of memory"), 3, "error: out of memory\n"),
        (GateNotMet("too low"), 1, "error: too low\n"),
        (Interrupted(15, "interrupted", "resume"), 143, "error: interrupted\n  fix: resume\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (BrokenPipeError(), 0, ""),
        (ValueError(""), 3, "internal error: ValueError (run with --debug for the traceback)\n"),
        (typer.Exit(7), 7, ""),
    ],
)
def test_errors_become_exit_codes(error, code, said):
    assert end_with(error) == (code, said)


def test_control_characters_in_a_message_do_not_reach_the_terminal():
    assert end_with(UsageError("row \x1b[2Jhas\x07 it")) == (2, "error: row �[2Jhas� it\n")
