"""Whether all processes see one run directory: on several machines it must be on a drive that they share."""

from __future__ import annotations

import secrets
import socket
import time

from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.training.distributed.group import agreed, from_main

WAIT_S = 20.0
"""Seconds after which a network drive shows what another machine has written."""


def check_shared(run: Run) -> None:
    """Raise UsageError, in all processes, where one of them does not see what process 0 writes into `run`.

    All processes must call it.
    """
    name, host = from_main(lambda: (f".shared-{secrets.token_hex(8)}", socket.gethostname()))
    marker = run.path / name
    from_main(marker.touch)
    try:
        agreed(lambda: _wait_for(run, name, host))
    finally:
        from_main(lambda: marker.unlink(missing_ok=True))


def _wait_for(run: Run, name: str, host: str) -> None:
    end = time.monotonic() + WAIT_S
    while not (run.path / name).exists():
        if time.monotonic() > end:
            raise UsageError(
                f"{socket.gethostname()} does not see the run directory {run.path.absolute()} of {host}: "
                "it is not shared between the machines",
                "set --output-dir to a folder that every machine mounts at the same path",
            )
        time.sleep(0.2)
