"""Several processes: started here through accelerate, or by a launcher that started this very process.

The child processes tell their parent what happens over a local socket, one JSON object a line: events from process 0,
and from any process the error that ended it. So the first failure is what people see, not "connection closed by peer".
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from rft_cli import events
from rft_cli.errors import RftError, RunFailed, UsageError, UsageErrors
from rft_cli.events import Event, Finished, OnEvent
from rft_cli.job import Job, create_run
from rft_cli.runs import Run
from rft_cli.training.main import check, train

ADDRESS = "RFT_EVENT_SOCKET"


def launch(run: Run, on_event: OnEvent, processes: int, resume: bool = False) -> dict[str, Any]:
    """Train `run` with `processes` processes on this machine; returns the result process 0 reports.

    Raises the first error any of them reported, or RunFailed where one died without a word.
    """
    (run.path / "logs").mkdir(exist_ok=True)
    log = run.path / "logs" / "launch.log"
    with _listening() as (address, messages), log.open("ab") as output:
        child = subprocess.Popen(
            command(run, processes, resume),
            env={**os.environ, ADDRESS: address, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            outcome = _follow(child, messages, on_event)
        finally:
            _end(child)
    if outcome.error is not None:
        raise outcome.error
    if outcome.result is None:
        raise RunFailed(
            f"a training process died (exit code {child.returncode})", f"its last words are in {log}"
        )
    return outcome.result


def command(run: Run, processes: int, resume: bool) -> list[str]:
    """`accelerate launch` for this machine. `--multi_gpu` picks its multi-process launcher, on CPUs too:
    `--cpu` would silently start a single process where there is no MPI (accelerate 1.15)."""
    return [
        sys.executable, "-m", "accelerate.commands.launch",
        "--multi_gpu", "--num_processes", str(processes), "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(_free_port()),
        "-m", "rft_cli.training.worker", str(run.path), *(["--resume"] if resume else []),
    ]  # fmt: skip


def under_launcher(job: Job, on_event: OnEvent, run: Run | None) -> dict[str, Any] | None:
    """This process is one of several that `accelerate launch` or torchrun started: train with the others.

    Process 0 makes the run (or continues `run`) and returns the result; the others return None.
    """
    import torch

    state = PartialState(cpu=not torch.cuda.is_available())
    resume = run is not None
    if not resume:
        check(job)
    if state.is_main_process and run is None:
        run = create_run(job)
    path = [None if run is None else str(run.path)]
    broadcast_object_list(path)
    shared = Run(Path(str(path[0])))
    try:
        if not state.is_main_process:
            train(job, shared, on_event, resume=resume)
            return None
        with shared.session():
            result = train(job, shared, on_event, resume=resume)
            shared.finish(result)
            return result
    finally:
        end_process_group()


def end_process_group() -> None:
    """Leave the others in order: without it an abort at exit was seen."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class Reporter:
    """A child's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)

    def event(self, event: Event) -> None:
        self._send(event.to_json())

    def error(self, error: BaseException) -> None:
        if not isinstance(error, RftError):
            error = RunFailed(f"{type(error).__name__}: {error}")
        several = error.problems if isinstance(error, UsageErrors) else ()
        self._send(
            {
                "error": type(error).__name__,
                "message": error.message,
                "fix": error.fix,
                "problems": [{"message": p.message, "fix": p.fix} for p in several],
            }
        )

    def _send(self, row: dict[str, Any]) -> None:
        with suppress(OSError):  # the parent is gone: the work goes on or ends by itself
            self._socket.sendall(json.dumps(row).encode() + b"\n")


class _Messages:
    """Lines that the children sent, in order of arrival."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def put(self, row: dict[str, Any]) -> None:
        with self._changed:
            self._rows.append(row)
            self._changed.notify()

    def take(self, seconds: float) -> list[dict[str, Any]]:
        with self._changed:
            if not self._rows:
                self._changed.wait(seconds)
            rows, self._rows = self._rows, []
            return rows


class _Outcome:
    result: dict[str, Any] | None = None
    error: RftError | None = None


def _follow(child: subprocess.Popen[bytes], messages: _Messages, on_event: OnEvent) -> _Outcome:
    outcome = _Outcome()
    while True:
        ended = child.poll() is not None
        for row in messages.take(0.2):
            if "error" in row:
                outcome.error = outcome.error or _error(row)
            else:
                event = events.from_json(row)
                if isinstance(event, Finished):
                    outcome.result = dict(event.result)
                on_event(event)
        if ended:
            return outcome


def _error(row: dict[str, Any]) -> RftError:
    if row["error"] == UsageErrors.__name__:
        return UsageErrors([UsageError(p["message"], p["fix"]) for p in row["problems"]])
    kind = UsageError if row["error"] == UsageError.__name__ else RunFailed
    return kind(row["message"], row["fix"])


@contextmanager
def _listening() -> Iterator[tuple[str, _Messages]]:
    messages = _Messages()
    with tempfile.TemporaryDirectory(prefix="rft-") as folder:
        address = str(Path(folder) / "events")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(address)
            server.listen()
            threading.Thread(target=_accept, args=(server, messages), daemon=True).start()
            yield address, messages


def _accept(server: socket.socket, messages: _Messages) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # the server socket was closed: the job is over
            return
        threading.Thread(target=_read, args=(connection, messages), daemon=True).start()


def _read(connection: socket.socket, messages: _Messages) -> None:
    with connection, connection.makefile("rb") as lines:
        for line in lines:
            messages.put(json.loads(line))


def _end(child: subprocess.Popen[bytes]) -> None:
    """Nothing outlives the parent: first a chance to leave, then the whole session is killed."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, 9)
    child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
