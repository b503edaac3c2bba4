"""Several processes on this machine: the parent that starts them and decides how the job ends.

The first failure counts, not the "connection closed by peer" that follows from it; a process that dies without a word
is a failure too. Then all the others are ended, in seconds. One that keeps the others waiting makes their collective
fail after `distributed.collective_timeout_s`, and is ended with its stacks in the log.
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
from rft_cli.training.distributed.channel import Cause, Listener, Said, error_from_json, listening
from rft_cli.training.distributed.ranks import Ranks, started

GRACE_S = 5.0
"""Seconds that the other processes get to end by themselves after a failure, and all of them after their goodbyes."""
TICK_S = 0.2
CONNECT_S = 1.0
"""Seconds until a process that has ended counts as one that never connected: its words may be on their way."""


def launch(
    run: Run,
    on_event: OnEvent,
    processes: int,
    resume: bool = False,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Train `run` with `processes` processes on this machine; returns the result process 0 reports.

    Raises the error of the process that failed first, or RunFailed where one died without a word, or kept the others
    waiting for too long. Once `stop` was asked for, all processes are told, finish their step and end with Interrupted;
    what a further signal raises in here ends all at once.
    """
    stop = stop or Stop()
    timeout_s = load_own(run.path).config.distributed.collective_timeout_s
    log = run.path / "logs" / "launch.log"
    log.parent.mkdir(exist_ok=True)
    with (
        listening() as listener,
        log.open("ab") as output,
        started(command(run, resume), processes, listener.address, output) as ranks,
        stop.finishing(),
    ):
        return _Following(run, ranks, listener, on_event, timeout_s, log).to_the_end(stop)


def command(run: Run, resume: bool) -> list[str]:
    """What Python runs in each process."""
    return ["-m", "rft_cli.training.worker", str(run.path), *(["--resume"] if resume else [])]


@dataclass(frozen=True, slots=True)
class _Failure:
    """`at`: monotonic time."""

    cause: Cause
    at: float
    error: RftError


class _Following:
    """From the first word of the first process to the end of the last."""

    def __init__(
        self, run: Run, ranks: Ranks, listener: Listener, on_event: OnEvent, timeout_s: float, log: Path
    ) -> None:
        self._run, self._ranks, self._listener, self._on_event = run, ranks, listener, on_event
        self._timeout_s, self._log = timeout_s, log
        self._result: dict[str, Any] | None = None
        self._failures: list[_Failure] = []
        self._interruption: RftError | None = None
        self._running = set(range(len(ranks)))
        self._spoken: set[int] = set()
        """Processes that said why they end, or that all is done."""
        self._closed: dict[int, float] = {}
        self._ended: dict[int, float] = {}
        self._deadline = float("inf")
        """Monotonic time at which those that still run are ended."""
        self._silent: list[str] = []
        """Who was ended so, without a word."""

    def to_the_end(self, stop: Stop) -> dict[str, Any]:
        """Follow until all have ended; the result, or the error that counts."""
        told = False
        while self._running:
            if stop.number is not None and not told:
                self._listener.stop(stop.number)
                told = True
            self._hear(self._listener.take(TICK_S))
            self._look(monotonic())
        self._hear(self._listener.take(0.0))
        if self._failures:
            first = min(self._failures, key=lambda f: (f.cause, f.at))
            raise self._timed_out() if first.cause is Cause.TIMED_OUT else first.error
        if self._result is not None:
            return self._result
        if self._interruption is not None:
            raise self._interruption
        if self._silent:
            raise self._timed_out()
        raise RunFailed("the training processes ended without a result", self._fix())

    def _hear(self, said: list[Said]) -> None:
        for line in said:
            row = line.row
            if row is None:
                self._closed[line.rank] = line.at
            elif "goodbye" in row:
                self._part(line)
            elif "error" in row:
                self._part(line)
                self._hear_error(row)
            else:
                event = events.from_json(row)
                if isinstance(event, Finished):
                    self._result = dict(event.result)
                self._on_event(event)

    def _part(self, last: Said) -> None:
        """This process has said its last word: the others may take as long as it would wait for them."""
        self._spoken.add(last.rank)
        seconds = GRACE_S if self._running <= self._spoken else self._timeout_s
        self._deadline = min(self._deadline, last.at + seconds)

    def _hear_error(self, row: dict[str, Any]) -> None:
        error = error_from_json(row)
        if isinstance(error, Interrupted):
            self._interruption = self._interruption or error
            return
        if error.fix is None and row["error"] == RunFailed.__name__:
            error = RunFailed(error.message, self._fix())
        self._fail(_Failure(Cause(row["cause"]), row["at"], error))

    def _look(self, now: float) -> None:
        """Who has ended, and who must?"""
        for rank in sorted(self._running):
            code = self._ranks.ended(rank)
            # What it said last may still be on its way: its end of the socket is closed after that.
            if code is None or not self._heard_all(rank, now):
                continue
            self._running.discard(rank)
            if rank not in self._spoken:
                self._fail(_Failure(Cause.OWN, self._closed.get(rank, now), self._death(rank, code)))
        if now >= self._deadline:
            self._end_all()

    def _heard_all(self, rank: int, now: float) -> bool:
        """Whether nothing more can come from this process, which has ended."""
        since = self._ended.setdefault(rank, now)
        return rank in self._closed or (rank not in self._listener.pids and now - since >= CONNECT_S)

    def _end_all(self) -> None:
        """End those that still run; the log gets the stacks of those that have not said why."""
        for rank in sorted(self._running - self._spoken):
            stopped = ", it was stopped (SIGSTOP)" if self._ranks.is_stopped(rank) else ""
            self._silent.append(f"{self._name(rank)} did not answer{stopped}")
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
            signal.SIGKILL: "memory may have run out (dmesg tells); ",
            signal.SIGABRT: f"NCCL ends a process so after waiting {self._timeout_s:g} s for another; ",
        }
        number = signal.Signals(-code)
        return RunFailed(f"{who} was killed by {number.name}", hints.get(number, "") + self._fix())

    def _timed_out(self) -> RunFailed:
        """Raised in those that waited, by torch, or by this process after their goodbyes."""
        waited = f"waited {self._timeout_s:g} s for one another (distributed.collective_timeout_s)"
        return RunFailed(
            "; ".join([f"the training processes {waited}", *self._silent]),
            f"the stack of each is in {self._log}; go on with: {resume_command(self._run.path)}",
        )

    def _name(self, rank: int) -> str:
        return f"process {rank} of {len(self._ranks)} (pid {self._ranks.pid(rank)})"

    def _fix(self) -> str:
        return f"its last words are in {self._log}; go on with: {resume_command(self._run.path)}"
