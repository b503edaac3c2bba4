"""Processes that a scorer started and that outlived their worker, found by a mark that they inherit.

A worker's environment has its folder as TMPDIR, as /proc shows it for whatever it forks and starts. Only a program that
was started with another environment, in another folder, is not found. Linux only: elsewhere the worker's process group
is all there is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

_MOST_SCANS = 20
"""A process may fork while the others are looked through: its child is found by the next scan."""


def kill_leftovers(scratch: Path) -> None:
    """End every process that carries a mark of this folder. Call it when the workers are gone, before it is removed."""
    if sys.platform == "linux":
        scans = 0
        while scans < _MOST_SCANS and _kill_marked(f"{scratch}{os.sep}"):
            scans += 1


def _kill_marked(inside: str) -> int:
    """End the processes with a folder that begins with `inside`; how many there were."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # It has ended, or is another user's.
            with contextlib.suppress(OSError):
                # A removed folder reads as "PATH (deleted)", which begins the same way.
                is_inside = os.readlink(entry / "cwd").startswith(inside)
                if is_inside or f"\0TMPDIR={inside}".encode() in b"\0" + (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
                    found += 1
    return found
