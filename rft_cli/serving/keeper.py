"""Runs a command and ends it, with all that it started, once the process that asked for it is gone.

`python -m rft_cli.serving.keeper COMMAND...`, in a session of its own. Standard input is a pipe that nobody writes to:
it ends when the parent closes it or dies, however that happens.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL."""


def main(command: list[str]) -> int:
    """The command's exit code; 128 + the signal's number where a signal ended it."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    # What ends the command goes to the whole group, which this process belongs to.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(child,), daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _end_with_parent(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_S)
    # This process too.
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
