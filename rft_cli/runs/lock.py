"""One writer a run: a file lock that the kernel frees when its holder dies, and a note naming the holder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from rft_cli.errors import UsageError


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the run's lock; UsageError naming the holder where another process (or this one) has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", blocking=False)
    holder = folder / ".lock-holder"
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"{folder} is being written by {_holder(holder)}",
            "wait until it ends, or stop it; a second writer would mix two runs",
        ) from None
    try:
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            holder.unlink()
        lock.release()


def _holder(file: Path) -> str:
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
        return f"process {row['pid']} on {row['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
