"""Captures what a scorer prints: into the grader's log, or, for `rft grade`, back to the parent with its grade.

Descriptors 1 and 2 are redirected too, so that what C code and child processes write is caught.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

MOST = 16_384
"""Bytes of one grade's output that are passed on."""
_dup2, _lseek, _pread, _truncate = os.dup2, os.lseek, os.pread, os.ftruncate
_from_start, _from_here = os.SEEK_SET, os.SEEK_CUR


def output_path(folder: str) -> Path:
    """The file of the worker of this folder for what its scorer prints until the grade is over."""
    return Path(f"{folder}.out")


def shorten(output: bytes) -> str:
    """Output as text, with a note where it was cut."""
    text = output[:MOST].decode("utf-8", "backslashreplace")
    return text if len(output) <= MOST else f"{text}\n… (more than {MOST} bytes: the rest is left out)\n"


class Streams:
    """Standard output and error of this process, which write into `path`. `keep`: `take` gives what was written.

    Python's streams have a descriptor of their own: a scorer that closes descriptor 1 or 2 can still print.
    """

    def __init__(self, path: str, *, keep: bool) -> None:
        self._keep = keep
        # What is kept is written at one position, which everyone shares who inherits the descriptor.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | (0 if keep else os.O_APPEND), 0o600)
        self.redirect()
        self._out = self._open("stdout")
        self._err = self._open("stderr")

    def redirect(self) -> None:
        """Let descriptors 1 and 2 write into the file, also where a scorer closed them."""
        _dup2(self._file, 1)
        _dup2(self._file, 2)

    def repair(self) -> None:
        """Give sys.stdout and sys.stderr back where a scorer closed or replaced them."""
        if sys.stdout is not self._out or self._out.closed:
            self._out = self._open("stdout")
        if sys.stderr is not self._err or self._err.closed:
            self._err = self._open("stderr")

    def flush(self) -> None:
        """Write what is buffered into the file."""
        for stream in (self._out, self._err):
            with contextlib.suppress(Exception):  # the scorer closed it
                stream.flush()

    def take(self) -> str:
        """What was written since the last call, where it is kept. The file is empty after that."""
        if not self._keep or not _lseek(self._file, 0, _from_here):
            return ""
        output = _pread(self._file, MOST + 1, 0)
        _truncate(self._file, 0)
        _lseek(self._file, 0, _from_start)
        return shorten(output)

    def _open(self, name: str) -> io.TextIOWrapper:
        stream = io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(self._file, "w", closefd=False)),
            encoding="utf-8",
            errors="backslashreplace",
            # What is kept has to be there when the grade ends.
            write_through=self._keep,
            line_buffering=self._keep,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        return stream
