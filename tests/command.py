"""The real command line in a process of its own: its environment, and how it ended."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.warm import warm_server

ROOT = Path(__file__).resolve().parents[1]
RFT = (sys.executable, "-m", "rft_cli")
FULL = os.environ.get("RFT_FAULTS") == "full"
"""Whether all of the fault suite runs, not its short version."""


def sets(settings: Mapping[str, Any]) -> list[str]:
    """`--set` for each of these settings."""
    return [
        word
        for key, value in settings.items()
        for word in ("--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    ]


def environment(traced: bool = True, **more: str) -> dict[str, str]:
    """This process's environment, for a child that takes rft from this checkout and asks no network.

    `traced` False: without coverage, which costs time and memory of its own.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RFT_")}
    if not traced:
        kept = {name: value for name, value in kept.items() if not name.startswith("COVERAGE_")}
    fixed = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "100"}
    return {**kept, **fixed, "PYTHONPATH": str(ROOT), **more}


@dataclass(frozen=True)
class Ended:
    """How a command ended. `peak_mb`, where it was measured: the most memory that it, or a child, had at a time."""

    code: int
    stdout: bytes
    stderr: bytes
    seconds: float = 0.0
    peak_mb: float = math.nan  # where it was not measured: no comparison holds

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def err(self) -> str:
        """Standard error as text, which it must be."""
        return self.stderr.decode()

    @property
    def errors(self) -> list[str]:
        """Its messages, as they stand there."""
        return [line for line in self.err.splitlines() if line.startswith(("error", "internal error"))]

    @property
    def problems(self) -> list[str]:
        """The messages behind `error: `, without their fixes."""
        return [line[7:] for line in self.err.splitlines() if line.startswith("error: ")]


def rft(
    *args: str | Path,
    folder: Path,
    given: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout: float = 280,
) -> Ended:
    """The real `rft` command in `folder`, to its end, with `given` as its standard input.

    In a forked child of a process that has the imports, where that can have this environment.
    """
    variables, words = environment(traced=False, **(env or {})), list(map(os.fspath, args))
    if warm_server().can_run(variables):
        return _in_child(words, folder, given, variables, timeout)
    done = subprocess.run(
        [*RFT, *words],
        cwd=folder, input=given, capture_output=True, env=environment(**(env or {})), timeout=timeout, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def _in_child(
    args: list[str], folder: Path, given: bytes, variables: dict[str, str], timeout: float
) -> Ended:
    with tempfile.TemporaryDirectory(prefix="rft-streams-") as streams:
        source, out, err = (Path(streams) / name for name in ("given", "out", "err"))
        source.write_bytes(given)
        server = warm_server()
        pid = server.start(folder, args, out, err, variables, source)
        return Ended(server.wait(pid, timeout), out.read_bytes(), err.read_bytes())


_MEASURED = """
import os, resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
os.write(int(sys.argv[1]), str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss).encode())
sys.exit(code)
"""


def rft_measured(*args: str, folder: Path, timeout: float = 280) -> Ended:
    """The same with its memory, and without coverage, which takes some of its own.

    A small process stands between: a child's peak begins with the memory of the process that started it, and this one
    may have torch loaded.
    """
    read, write = os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(write), *RFT, *args],
        cwd=folder, capture_output=True, env=environment(traced=False), timeout=timeout, pass_fds=[write], check=False,
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        return Ended(done.returncode, done.stdout, done.stderr, peak_mb=int(pipe.read()) / 1024)
