"""The real `rft` command in a process of its own, and what it said, as bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What one command did. `peak_mb` is the most memory that it, or one of its children, had at a time."""

    code: int
    out: bytes
    err: bytes
    peak_mb: float

    @property
    def said(self) -> str:
        """Standard error as text, which it must be."""
        return self.err.decode()

    @property
    def problems(self) -> list[str]:
        """The messages behind `error: `, without their fixes."""
        return [line[7:] for line in self.said.splitlines() if line.startswith("error: ")]


_MEASURED = """
import os, resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
os.write(int(sys.argv[1]), str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss).encode())
sys.exit(code)
"""


def rft(
    *args: str | Path,
    folder: Path,
    given: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    traced: bool = True,
) -> Done:
    """Run `rft` with these arguments in `folder`, with `given` as its standard input.

    `traced` False: without coverage, which costs time and memory of its own.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RFT_")}
    clean |= {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "100", "PYTHONPATH": str(HOME)}
    if not traced:
        clean = {name: value for name, value in clean.items() if not name.startswith("COVERAGE_")}
    read, write = os.pipe()
    command = [sys.executable, "-m", "rft_cli", *map(os.fspath, args)]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(write), *command],
        cwd=folder, input=given, capture_output=True, env={**clean, **(env or {})}, timeout=timeout, pass_fds=[write],
    )  # fmt: skip
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        return Done(done.returncode, done.stdout, done.stderr, int(pipe.read()) / 1024)
