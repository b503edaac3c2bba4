"""One side of a comparison as a process of its own that works a round whenever it is asked to.

The parent asks with one word a line; the child answers with one JSON object a line. So both sides are loaded and warm
before anything is timed, only one of them works at a time, and each may live in an environment of its own. This module
is run by every side's interpreter: it imports the standard library alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
"""Environments, models and logs of the benchmarks; git ignores it."""


class SideFailed(RuntimeError):
    """A side ended before it answered; the message has the end of its log."""


class Side:
    """The parent's end. `hello` is what the child said when it was ready."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        log = BUILD / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **(env or {})},
            )
        self.hello = self._hear()

    def ask(self, request: str) -> dict[str, Any]:
        """Send one word and wait for its answer; raises SideFailed where the child ends instead."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `_hear` says why it ended
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            tail = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise SideFailed(f"{self._log}: ended with {code}: " + " | ".join(tail))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process: it sees the end of its input and stops, or is killed after half a minute."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Channel:
    """The child's end: standard output belongs to answers alone, whatever libraries print goes to the log."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def say(self, **answer: Any) -> None:
        self._out.write(json.dumps(answer) + "\n")
        self._out.flush()

    def hear(self) -> str:
        """The next request; empty where the parent has no more."""
        return sys.stdin.readline().strip()
