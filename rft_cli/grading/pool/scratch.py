"""The temporary folder of one grader's workers, and the removal of folders whose owner was killed.

The owner holds an operating system lock on a file in the folder, which the kernel frees when the process ends. So a
folder whose lock is free has no owner, whatever process ids and containers there are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import weakref
from pathlib import Path

from rft_cli.grading.isolation.leftovers import kill_leftovers

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
