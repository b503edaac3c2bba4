"""Several processes on this machine: the parent that starts them and decides how the job ends.

The first failure counts, not the "connection closed by peer" that follows from it; a process that dies without an error
is a failure too. Then all the others are ended, within seconds. A process that keeps the others waiting makes their
collective fail after `distributed.collective_timeout_s`, and is ended with its stacks in the log.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from rft_cli import events
from rft_cli.config.load import load_own
from rft_cli.errors import Interrupted, RftError, RunFailed
from rft_cli.events import Finished, OnEvent
from rft_cli.runs import Run
from rft_cli.runs.suggested_commands import resume_command
from rft_cli.stopping import Stop
from rft_cli.training.distributed.channel import Cause, Received, error_from_json
from rft_cli.training.distributed.ranks import Ranks, started

GRACE_S = 5.0
"""Seconds in which the other processes may end by themselves after a failure, and all of them after their goodbyes."""
TICK_S = 0.2


def launch(
    run: Run,
    on_event: OnEvent,
    processes: int,
    resume: bool = False,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Train `run` with `processes` processes on this machine; returns the result process 0 reports.

    Raises the error of the process that failed first, or RunFailed where one died without an error, or kept the others
    waiting for too long. Once `stop` was asked for, all processes finish their step and end with Interrupted; what a
    further signal raises in here ends all at once.
    """
    stop = stop or Stop()
    timeout_s = load_own(run.path).config.distributed.collective_timeout_s
    log = run.path / "logs" / "launch.log"
    log.parent.mkdir(exist_ok=True)
    with (
        log.open("ab") as output,
        started(command(run, resume), processes, output) as ranks,
        stop.finishing(),
    ):
        return Supervisor(run, ranks, on_event, timeout_s, log).wait(stop)


def command(run: Run, resume: bool) -> list[str]:
    """What Python runs in each process."""
    return ["-m", "rft_cli.training.rank_main", str(run.path), *(["--resume"] if resume else [])]


@dataclass(frozen=True, slots=True)
class _Failure:
    """`at`: monotonic time."""

    cause: Cause
    at: float
    error: RftError


class Supervisor:
    """Receives from the processes until all have ended."""

    def __init__(self, run: Run, ranks: Ranks, on_event: OnEvent, timeout_s: float, log: Path) -> None:
        self._run, self._ranks, self._on_event = run, ranks, on_event
        self._timeout_s, self._log = timeout_s, log
        self._result: dict[str, Any] | None = None
        self._failures: list[_Failure] = []
        self._interruption: RftError | None = None
        self._running = set(range(len(ranks)))
        self._reported: set[int] = set()
        """Processes that sent why they end, or that all is done."""
        self._closed: dict[int, float] = {}
        self._deadline = float("inf")
        """Monotonic time at which those that still run are ended."""
        self._unanswered: list[str] = []
        """Texts on processes that were ended so, without a report."""

    def wait(self, stop: Stop) -> dict[str, Any]:
        """Wait until all have ended; returns the result, or raises the error that counts."""
        stopping = False
        while self._running:
            if stop.number is not None and not stopping:
                self._ranks.receiver.stop(stop.number)
                stopping = True
            self._handle(self._ranks.receiver.take(TICK_S))
            self._check_processes()
            if monotonic() >= self._deadline:
                self._end_all()
        if self._failures:
            first = min(self._failures, key=lambda f: (f.cause, f.at))
            raise self._timed_out() if first.cause is Cause.TIMED_OUT else first.error
        if self._result is not None:
            return self._result
        if self._interruption is not None:
            raise self._interruption
        if self._unanswered:
            raise self._timed_out()
        raise RunFailed("the training processes ended without a result", self._fix())

    def _handle(self, received: list[Received]) -> None:
        for line in received:
            row = line.row
            if row is None:
                self._closed[line.rank] = line.at
            elif "goodbye" in row:
                self._handle_report(line)
            elif "error" in row:
                self._handle_report(line)
                self._handle_error(row)
            else:
                event = events.from_json(row)
                if isinstance(event, Finished):
                    self._result = dict(event.result)
                self._on_event(event)

    def _handle_report(self, last: Received) -> None:
        """Give the others as long as this process would have waited for them."""
        self._reported.add(last.rank)
        seconds = GRACE_S if self._running <= self._reported else self._timeout_s
        self._deadline = min(self._deadline, last.at + seconds)

    def _handle_error(self, row: dict[str, Any]) -> None:
        error = error_from_json(row)
        if isinstance(error, Interrupted):
            self._interruption = self._interruption or error
            return
        if error.fix is None and row["error"] == RunFailed.__name__:
            error = RunFailed(error.message, self._fix())
        self._fail(_Failure(Cause(row["cause"]), row["at"], error))

    def _check_processes(self) -> None:
        ended = {rank: code for rank in self._running if (code := self._ranks.ended(rank)) is not None}
        # Before they ended they may have sent more than was received above.
        while ended and (received := self._ranks.receiver.take(0.0)):
            self._handle(received)
        for rank, code in ended.items():
            self._running.discard(rank)
            if rank not in self._reported:
                at = self._closed.get(rank, monotonic())
                self._fail(_Failure(Cause.OWN, at, self._death(rank, code)))

    def _end_all(self) -> None:
        """End those that still run; the log gets the stacks of those without a report."""
        for rank in sorted(self._running - self._reported):
            stopped = ", it was stopped (SIGSTOP)" if self._ranks.is_stopped(rank) else ""
            self._unanswered.append(f"{self._name(rank)} did not answer{stopped}")
            self._ranks.dump(rank)
        self._ranks.kill()
        self._running.clear()

    def _fail(self, failure: _Failure) -> None:
        self._failures.append(failure)
        self._deadline = min(self._deadline, monotonic() + GRACE_S)

    def _death(self, rank: int, code: int) -> RunFailed:
        who = self._name(rank)
        if code >= 0:
            return RunFailed(f"{who} ended before its work was done (exit code {code})", self._fix())
        hints = {
            signal.SIGKILL: "memory may have run out (see dmesg); ",
            signal.SIGABRT: f"NCCL ends a process so after waiting {self._timeout_s:g} s for another; ",
        }
        number = signal.Signals(-code)
        return RunFailed(f"{who} was killed by {number.name}", hints.get(number, "") + self._fix())

    def _timed_out(self) -> RunFailed:
        """The error where torch timed out in those that waited, or this process after their goodbyes."""
        waited = f"waited {self._timeout_s:g} s for one another (distributed.collective_timeout_s)"
        return RunFailed(
            "; ".join([f"the training processes {waited}", *self._unanswered]),
            f"the stack of each is in {self._log}; resume with: {resume_command(self._run.path)}",
        )

    def _name(self, rank: int) -> str:
        return f"process {rank} of {len(self._ranks)} (pid {self._ranks.pid(rank)})"

    def _fix(self) -> str:
        return f"its last output is in {self._log}; resume with: {resume_command(self._run.path)}"
