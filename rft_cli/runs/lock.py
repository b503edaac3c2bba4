"""One writer a run: a file lock that the kernel frees when its holder dies, and a note naming the holder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from rft_cli.errors import UsageError
from rft_cli.runs.disk_errors import writing

_PATIENCE = 0.3
"""Seconds to wait for the lock."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the run's lock; UsageError naming the holder where another process (or this one) has it."""
    from filelock import FileLock, Timeout

    # Waits: `check_free` of another process may hold it for a moment.
    lock = FileLock(folder / ".lock", timeout=_PATIENCE, poll_interval=0.02)
    holder = folder / ".lock-holder"
    try:
        with writing(folder / ".lock", folder):
            lock.acquire()
    except Timeout:
        raise _taken(folder) from None
    try:
        # a full disk: the lock works without the note
        with contextlib.suppress(OSError):
            holder.write_text(
                json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8"
            )
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def check_free(folder: Path) -> None:
    """Raise the UsageError that `hold` would where another process writes this run; changes nothing on disk."""
    try:
        fd = os.open(folder / ".lock", os.O_RDONLY)
    except OSError:
        # never held
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _taken(folder) from None
    finally:
        os.close(fd)


def _taken(folder: Path) -> UsageError:
    return UsageError(
        f"{folder} is being written by {_holder(folder / '.lock-holder')}",
        "wait until it ends, or stop it; a second writer would mix two runs",
    )


def _holder(file: Path) -> str:
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
        return f"process {row['pid']} on {row['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
