"""What the child processes tell their parent, and what it makes of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rft_cli.errors import GateNotMet, Interrupted, RftError, RunFailed, UsageError, UsageErrors
from rft_cli.events import Event, Finished, Note, Stepped
from rft_cli.runs import Run
from rft_cli.training import launch


def arrived(*said: Event | BaseException) -> list[dict[str, object]]:
    """What one child says over the socket, as the parent reads it."""
    with launch._listening() as (address, messages):
        reporter = launch.Reporter(address)
        with reporter._socket:
            for word in said:
                if isinstance(word, BaseException):
                    reporter.error(word)
                else:
                    reporter.event(word)
        rows: list[dict[str, object]] = []
        for _ in range(100):
            rows += messages.take(0.1)
            if len(rows) == len(said):
                return rows
    raise AssertionError(f"only {len(rows)} of {len(said)} messages arrived")


def as_raised(error: BaseException) -> RftError:
    (row,) = arrived(error)
    return launch._error(row)


@pytest.mark.parametrize(
    ("error", "kind", "code", "message", "fix"),
    [
        (UsageError("no model", "give one"), UsageError, 2, "no model", "give one"),
        (UsageErrors([UsageError("one"), UsageError("two")]), UsageErrors, 2, "one\ntwo", None),
        (RunFailed("the grader fails", "look into it"), RunFailed, 3, "the grader fails", "look into it"),
        (GateNotMet("too little"), RunFailed, 3, "too little", None),
        (Interrupted(15, "stopped"), RunFailed, 3, "stopped", None),
        (ZeroDivisionError("by zero"), RunFailed, 3, "ZeroDivisionError: by zero", None),
        (KeyboardInterrupt(), RunFailed, 3, "KeyboardInterrupt: ", None),
    ],
)
def test_errors_keep_their_exit_code(
    error: BaseException, kind: type[RftError], code: int, message: str, fix: str | None
) -> None:
    raised = as_raised(error)
    assert type(raised) is kind
    assert (raised.exit_code, raised.message, raised.fix) == (code, message, fix)


def test_every_problem_keeps_its_fix() -> None:
    raised = as_raised(UsageErrors([UsageError("one", "do this"), UsageError("two")]))
    assert isinstance(raised, UsageErrors)
    assert [(p.message, p.fix) for p in raised.problems] == [("one", "do this"), ("two", None)]


def test_a_name_that_is_no_error_is_a_failed_run() -> None:
    raised = launch._error({"error": "NoSuchError", "message": "odd", "fix": None})
    assert type(raised) is RunFailed


class _Child:
    """A process that has ended."""

    def poll(self) -> int:
        return 0


def test_events_and_the_first_error_come_through() -> None:
    messages = launch._Messages()
    step = Stepped(1, 10, 0.1, {"reward": 0.5, "kl": None}, 2.0)
    for row in arrived(Note("hello"), step, Finished({"status": "done"})):
        messages.put(row)
    for error in (RunFailed("first"), RunFailed("second")):
        messages.put(arrived(error)[0])
    heard: list[Event] = []
    outcome = launch._follow(_Child(), messages, heard.append)  # type: ignore[arg-type]
    assert heard == [Note("hello"), step, Finished({"status": "done"})]
    assert outcome.result == {"status": "done"}
    assert outcome.error is not None
    assert outcome.error.message == "first"


def test_a_child_whose_parent_is_gone_goes_on() -> None:
    with launch._listening() as (address, _):
        reporter = launch.Reporter(address)
    with reporter._socket:
        for _ in range(3):
            reporter.event(Note("nobody listens"))


def test_the_command_asks_for_real_processes() -> None:
    command = launch.command(Run(Path("runs/job")), processes=2, resume=False)
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert "--multi_gpu" in command  # `--cpu` would start one process
    assert "--cpu" not in command
    assert command[command.index("--num_processes") + 1] == "2"
    assert command[-3:] == ["-m", "rft_cli.training.worker", "runs/job"]
    assert launch.command(Run(Path("runs/job")), 2, resume=True)[-2:] == ["runs/job", "--resume"]
