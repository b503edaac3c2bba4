"""Turns errors of a full, read-only or failing disk into one message that names the path and what to do.

Python raises OSError; torch and safetensors write files themselves and raise errors of their own.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rft_cli.errors import RftError, RunFailed
from rft_cli.runs.suggested_commands import resume_command

_FIXES = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or have the quota raised",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or store the run elsewhere",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the network drive",
    errno.ENOENT: "put the run's folder back",
}
_OF_RUST = re.compile(r"\(os error (\d+)\)")
"""safetensors 0.8: `Error while serializing: I/O error: No space left on device (os error 28)`."""
_OF_TORCH = re.compile(r"PytorchStreamWriter failed|unexpected pos \d+ vs \d+|file write failed")
"""torch 2.13: `[enforce fail at inline_container.cc] . unexpected pos 36096 vs 35984`."""
_FULL = 2**20
"""Free bytes below which an unexplained write error of torch means a full disk."""


@contextmanager
def writing(path: Path, run: Path) -> Iterator[None]:
    """Write `path`, a part of `run`, inside; a disk error becomes RunFailed with the command that resumes."""
    try:
        yield
    except RftError:
        raise
    except Exception as error:
        number = _number(error, path)
        if number is None:
            raise
        reason = str(error).strip().splitlines()[0] if number == errno.EIO else os.strerror(number)
        if isinstance(error, OSError):
            reason = error.strerror or reason
        raise RunFailed(
            f"{path} can't be written: {reason}", f"{_FIXES[number]}, then: {resume_command(run)}"
        ) from error


def _number(error: Exception, path: Path) -> int | None:
    """The errno of a disk error; None if the error is about something else."""
    if isinstance(error, OSError) and error.errno is not None:
        found: int | None = error.errno
    elif rust := _OF_RUST.search(str(error)):
        found = int(rust[1])
    elif _OF_TORCH.search(str(error)):
        found = errno.ENOSPC if _free(path) < _FULL else errno.EIO
    else:
        found = None
    return found if found in _FIXES else None


def _free(path: Path) -> int:
    there = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), Path("/"))
    return shutil.disk_usage(there).free
