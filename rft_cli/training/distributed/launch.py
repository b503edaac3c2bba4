"""Several processes on this machine: the parent that starts them and decides how the job ends.

The first failure counts, not the "connection closed by peer" that follows from it; a process that dies without a word,
or hangs, is a failure too. Then all the others are ended, in seconds.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from rft_cli import events
from rft_cli.config import RunConfig
from rft_cli.config.load import load_own
from rft_cli.errors import Interrupted, RftError, RunFailed
from rft_cli.events import Finished, OnEvent
from rft_cli.grading.source import is_spec
from rft_cli.runs import Run
from rft_cli.runs.hints import resume_command
from rft_cli.stopping import Stop
from rft_cli.training.distributed.channel import Listener, Said, error_from_json, listening
from rft_cli.training.distributed.hangs import Hang, HangWatch
from rft_cli.training.distributed.ranks import Ranks, started

GRACE_S = 5.0
"""Seconds that the other processes get to end by themselves after a failure, and all of them after their goodbyes."""
TICK_S = 0.2


def launch(
    run: Run,
    on_event: OnEvent,
    processes: int,
    resume: bool = False,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Train `run` with `processes` processes on this machine; returns the result process 0 reports.

    Raises the error of the process that failed first, or RunFailed where one died without a word or hangs. Once `stop`
    was asked for, all processes are told, finish their step and end with Interrupted; what a further signal raises in
    here ends all at once.
    """
    stop = stop or Stop()
    config = load_own(run.path).config
    log = run.path / "logs" / "launch.log"
    log.parent.mkdir(exist_ok=True)
    watch = HangWatch.over(processes, config.distributed.hang_timeout_s, grading_allowance(config))
    with (
        listening() as listener,
        log.open("ab") as output,
        started(command(run, resume), processes, listener.address, output) as ranks,
        stop.finishing(),
    ):
        return _Following(run, ranks, listener, on_event, watch, log).to_the_end(stop)


def command(run: Run, resume: bool) -> list[str]:
    """What Python runs in each process."""
    return ["-m", "rft_cli.training.worker", str(run.path), *(["--resume"] if resume else [])]


def grading_allowance(config: RunConfig) -> float:
    """Seconds that may pass between two grades because the grader has deadlines of its own, the slowest case.

    A completion that hangs costs `grader.timeout_s` and a few seconds, a batch call that hangs the same once more; a
    judge that doesn't answer costs every retry, with waits between them.
    """
    grader = config.grader
    judge = (grader.judge.retries + 1) * 2 * grader.judge.timeout_s if is_spec(grader) else 0.0
    return 4 * grader.grade_limit_s + judge


@dataclass(frozen=True, slots=True)
class _Failure:
    """`follows`: it says no more than that another process is gone; `at`: monotonic time."""

    follows: bool
    at: float
    error: RftError


class _Following:
    """From the first word of the first process to the end of the last."""

    def __init__(
        self, run: Run, ranks: Ranks, listener: Listener, on_event: OnEvent, watch: HangWatch, log: Path
    ) -> None:
        self._run, self._ranks, self._listener, self._on_event = run, ranks, listener, on_event
        self._watch, self._log = watch, log
        self._result: dict[str, Any] | None = None
        self._failures: list[_Failure] = []
        self._interruption: RftError | None = None
        self._running = set(range(len(ranks)))
        self._spoken: set[int] = set()
        """Processes that said why they end, or that all is done."""
        self._closed: dict[int, float] = {}
        self._deadline: float | None = None

    def to_the_end(self, stop: Stop) -> dict[str, Any]:
        """Follow until all have ended; the result, or the error that counts."""
        looked, told = monotonic(), False
        while self._running:
            if stop.number is not None and not told:
                self._listener.stop(stop.number)
                told = True
            self._hear(self._listener.take(TICK_S))
            looked, before = monotonic(), looked
            self._look(looked, looked - before)
        self._hear(self._listener.take(0.0))
        if self._failures:
            raise min(self._failures, key=lambda f: (f.follows, f.at)).error
        if self._result is not None:
            return self._result
        if self._interruption is not None:
            raise self._interruption
        raise RunFailed("the training processes ended without a result", self._fix())

    def _hear(self, said: list[Said]) -> None:
        for line in said:
            row = line.row
            if row is None:
                self._closed[line.rank] = line.at
            elif "sign" in row:
                self._watch.sign(line.rank, row["sign"])
            elif "goodbye" in row:
                self._part(line.rank, line.at + GRACE_S if self._all_but(line.rank) else None)
            elif "error" in row:
                self._part(line.rank, None)
                self._hear_error(row)
            else:
                event = events.from_json(row)
                if isinstance(event, Finished):
                    self._result = dict(event.result)
                self._on_event(event)

    def _all_but(self, rank: int) -> bool:
        return self._running <= self._spoken | {rank}

    def _part(self, rank: int, deadline: float | None) -> None:
        """This process has said its last word."""
        self._spoken.add(rank)
        self._watch.leave(rank)
        self._deadline = self._deadline or deadline

    def _hear_error(self, row: dict[str, Any]) -> None:
        error = error_from_json(row)
        if isinstance(error, Interrupted):
            self._interruption = self._interruption or error
            return
        if error.fix is None and row["error"] == RunFailed.__name__:
            error = RunFailed(error.message, self._fix())
        self._fail(_Failure(row["follows"], row["at"], error))

    def _look(self, now: float, passed: float) -> None:
        """Who has ended, and does the job get on?"""
        for rank in sorted(self._running):
            code = self._ranks.ended(rank)
            # What it said last may still be on its way: its end of the socket is closed after that.
            if code is None or (rank in self._listener.pids and rank not in self._closed):
                continue
            self._running.discard(rank)
            self._watch.leave(rank)
            if rank not in self._spoken:
                self._fail(_Failure(False, self._closed.get(rank, now), self._death(rank, code)))
        hang = self._watch.tick(passed, self._ranks.is_stopped, self._ranks.work)
        if hang is not None and not self._failures:
            message = self._hang(hang)
            self._ranks.dump()
            self._fail(_Failure(False, now, RunFailed(message, self._fix())))
            self._deadline = now
        if self._deadline is not None and now >= self._deadline:
            self._ranks.kill()
            self._running.clear()

    def _fail(self, failure: _Failure) -> None:
        self._failures.append(failure)
        self._deadline = self._deadline or monotonic() + GRACE_S

    def _death(self, rank: int, code: int) -> RunFailed:
        who = self._name(rank)
        if code >= 0:
            return RunFailed(f"{who} ended before its work was done (exit code {code})", self._fix())
        hint = "memory may have run out (dmesg tells); " if -code == signal.SIGKILL else ""
        return RunFailed(f"{who} was killed by {signal.Signals(-code).name}", hint + self._fix())

    def _hang(self, hang: Hang) -> str:
        if hang.rank is None:
            seconds = f"{hang.seconds:.0f} s"
            return f"the job hangs: all processes wait for one another for {seconds}\n{self._places()}"
        who, patient = self._name(hang.rank), self._watch.patients[hang.rank]
        if hang.silent:
            stopped = "it was stopped (SIGSTOP)" if self._ranks.is_stopped(hang.rank) else "it is stuck"
            return f"{who} hangs: no sign of life for {hang.seconds:.0f} s while {patient.phase}; {stopped}"
        return f"{who} hangs: no progress for {hang.seconds:.0f} s while {patient.phase}\n{self._places()}"

    def _places(self) -> str:
        return "\n".join(f"  process {n} is at {p.where}" for n, p in sorted(self._watch.patients.items()))

    def _name(self, rank: int) -> str:
        return f"process {rank} of {len(self._ranks)} (pid {self._ranks.pid(rank)})"

    def _fix(self) -> str:
        return f"its last words are in {self._log}; go on with: {resume_command(self._run.path)}"
