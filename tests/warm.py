"""Command lines in forked children of a process that has torch and TRL: imports take longer than a small job does.

Coverage makes a job half as long again: a child has it where its server has, and what the child starts has none.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

# Libraries read these when they are imported: a child can't have other values than its server.
_READ_AT_IMPORT = (
    "HF_",
    "HOME",
    "HUGGINGFACE_",
    "OMP_",
    "PYTHON",
    "TORCH",
    "TRANSFORMERS_",
    "XDG_",
)


class WarmServer:
    """A process that forks one child for each command (see `warm_server.py`), with this environment or one like it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm_server.py"))],
            env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def can_run(self, environment: Mapping[str, str]) -> bool:
        """Whether a child may have this environment: nothing differs that is read when a library is imported."""
        differ = {name for name, _ in self._environment.items() ^ environment.items()}
        return not any(name.startswith(_READ_AT_IMPORT) for name in differ)

    def start(
        self,
        folder: Path,
        arguments: Sequence[str],
        out: Path,
        err: Path,
        environment: Mapping[str, str] | None = None,
        given: Path = Path(os.devnull),
        before: str = "",
    ) -> int:
        """Begin this command line in a child; its process number. `before` is Python that the child runs first."""
        request = {"folder": folder, "out": out, "err": err, "given": given}
        return int(
            self._ask(
                {name: os.fspath(path) for name, path in request.items()}
                | {"arguments": list(arguments), "before": before}
                | {"environment": dict(environment or self._environment)}
            )
        )

    def wait(self, pid: int, seconds: float) -> int:
        """Its exit code; TimeoutError where it took too long and was killed."""
        reply = self._ask({"wait": pid, "seconds": seconds})
        if isinstance(reply, str):
            raise TimeoutError(reply)
        return int(reply)

    def close(self) -> None:
        """End the server; its children have ended. It writes coverage first, which may take long on a busy machine."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@cache
def warm_server(traced: bool = True) -> WarmServer:
    """The server of this test process, with coverage or without, begun at the first call."""
    from tests.command import environment

    server = WarmServer(environment(traced))
    atexit.register(server.close)
    return server
