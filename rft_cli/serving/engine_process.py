"""An engine as a child process: started, waited for, asked, and ended with all that it started."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rft_cli.errors import RunFailed, UsageError
from rft_cli.serving.engines import HOST, Engine
from rft_cli.serving.keeper import GRACE_S
from rft_cli.serving.model import ServedModel

POLL_S = 0.1
_SHOWN_LINES = 15


class EngineProcess:
    """One engine that serves one model on a port of its own. End it."""

    def __init__(self, engine: Engine, model: ServedModel, log: Path) -> None:
        self.engine, self.model = engine, model
        self.port = free_port()
        self._log = log
        self._child = _start(engine.command(model, self.port), log)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def has_ended(self) -> bool:
        return self._child.poll() is not None

    def wait_until_ready(self) -> None:
        """Return once it answers; RunFailed with the end of its log where it ends first."""
        while not self._answers():
            self.check()
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raise RunFailed where it has ended."""
        code = self._child.poll()
        if code is not None:
            raise RunFailed(
                f"the engine {self.engine.name} ended with exit code {code}{self._last_lines()}",
                "its last lines are above; try another one with --engine",
            )

    def end(self) -> None:
        """End it and everything that it started; safe to call twice."""
        pipe: IO[bytes] | None = self._child.stdin
        if pipe is not None:
            pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(GRACE_S + 1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_lines(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        return "".join(f"\n{line}" for line in lines[-_SHOWN_LINES:])


@contextlib.contextmanager
def engines_running(engine: Engine, models: list[ServedModel], logs: Path) -> Iterator[list[EngineProcess]]:
    """One process a model, ready to answer; ended at the end of the block, and where one of them does not start."""
    started: list[EngineProcess] = []
    try:
        for number, model in enumerate(models):
            started.append(EngineProcess(engine, model, logs / f"engine-{number}.log"))
        for process in started:
            process.wait_until_ready()
        yield started
    finally:
        for process in started:
            process.end()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def listen(port: int) -> socket.socket:
    """A socket that listens on the port, 0 for any; UsageError where it is taken."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
        raise UsageError(
            f"port {port} {reason}", "take another one with --port, or --port 0 for any that is free"
        ) from None
    return sock


def engine_environment() -> dict[str, str]:
    """This process's variables without those that an engine reads as flags: a key among them would make it refuse us.

    Weights are local: an engine must not ask the hub for them.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("LLAMA_API_KEY", "VLLM_API_KEY") and not name.startswith("LLAMA_ARG_")
    }
    return {**inherited, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    keeper = [sys.executable, "-P", "-m", "rft_cli.serving.keeper"]
    # Its own prints go to the log.
    with log.open("wb") as output:
        return subprocess.Popen(
            [*keeper, *command],
            env=engine_environment(),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
