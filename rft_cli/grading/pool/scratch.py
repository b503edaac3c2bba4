"""The temporary folder of one grader's workers, and the end of what they left: processes, and folders of a killed rft.

The owner holds an operating system lock on a file in the folder, which the kernel frees when the process ends. So a
folder whose lock is free has no owner, whatever process ids and containers there are.

A worker's environment has its folder as TMPDIR, as /proc shows it for whatever it forks and starts. Only a program that
was started with another environment, in another folder, is not found. Linux only: elsewhere the worker's process group
is all there is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import sys
import tempfile
import weakref
from pathlib import Path

_PREFIX = "rft-grader-"
_OWNED = ".owned"


class Scratch:
    """A new folder, gone with `remove`, with the program, or, where that was killed, when the next one is made."""

    def __init__(self) -> None:
        remove_stale(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Locked before it has its name: nobody sees a folder that looks left alone.
        draft = self.path / f"{_OWNED}-new"
        self._lock = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(draft, self.path / _OWNED)
        self.remove = weakref.finalize(self, _remove, self.path, self._lock)


def _remove(path: Path, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.close(lock)


def remove_stale(parent: Path) -> None:
    """Remove this user's folders whose owner is gone, and end what their workers left running."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another's, or gone meanwhile, or still owned
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                continue
            lock = os.open(folder / _OWNED, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                kill_leftovers(folder)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


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
