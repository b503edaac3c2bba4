"""What a scorer prints: to the grader's log, or, for `rft grade`, back to the parent with its grade.

Descriptors 1 and 2 are redirected, so that what C code and child processes write is caught too.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST = 16_384
"""Bytes of one grade's output that are passed on."""
_dup2, _lseek, _pread, _truncate = os.dup2, os.lseek, os.pread, os.ftruncate
_from_start, _from_here, _os_error = os.SEEK_SET, os.SEEK_CUR, OSError


def output_path(folder: str) -> Path:
    """Where the worker of this folder keeps what its scorer prints until the grade is over."""
    return Path(f"{folder}.out")


def shorten(output: bytes) -> str:
    """Output as text, with a note where it was cut."""
    text = output[:MOST].decode("utf-8", "backslashreplace")
    return text if len(output) <= MOST else f"{text}\n… (more than {MOST} bytes: the rest is left out)\n"


class _Steady(io.FileIO):
    """A descriptor that a scorer may close: it is opened again when something is to be written."""

    def __init__(self, number: int, again: Callable[[int], None]) -> None:
        super().__init__(number, "w", closefd=False)
        self._again = again

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            self._again(self.fileno())
            return super().write(data)


class Streams:
    """Standard output and error of this process, which write into `path`. `keep`: `take` gives what was written."""

    def __init__(self, path: str, *, keep: bool) -> None:
        self._path = path
        self._keep = keep
        self._file = _redirect(path, 1, 2, keep=keep)
        self._out = self._open("stdout", 1)
        self._err = self._open("stderr", 2)

    def repair(self) -> None:
        """Give sys.stdout and sys.stderr back where a scorer closed or replaced them."""
        if sys.stdout is not self._out or self._out.closed:
            self._out = self._open("stdout", 1)
        if sys.stderr is not self._err or self._err.closed:
            self._err = self._open("stderr", 2)

    def flush(self) -> None:
        """What was printed is in the file now."""
        for stream in (self._out, self._err):
            with contextlib.suppress(Exception):  # the scorer closed it
                stream.flush()

    def take(self) -> str:
        """What was written since the last call, where it is kept. The file is empty after that.

        The position in the file, which everyone shares who inherited descriptors 1 and 2, shows whether there is any.
        """
        if self._file is None:
            return ""
        try:
            if not _lseek(self._file, 0, _from_here):
                return ""
            output = _pread(self._file, MOST + 1, 0)
            _truncate(self._file, 0)
            _lseek(self._file, 0, _from_start)
        except _os_error:  # the scorer closed it
            self._file = None
            return ""
        return shorten(output)

    def _open(self, name: str, number: int) -> io.TextIOWrapper:
        try:
            os.fstat(number)
        except OSError:
            self._again(number)
        stream = io.TextIOWrapper(
            io.BufferedWriter(_Steady(number, self._again)),
            encoding="utf-8",
            errors="backslashreplace",
            # What is kept has to be there when the grade ends.
            write_through=self._keep,
            line_buffering=self._keep,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
        return stream

    def _again(self, number: int) -> None:
        """Give a descriptor back that the scorer closed. What is kept is written at one position, whoever writes."""
        try:
            if self._file is not None:
                _dup2(self._file, number)
                return
        except OSError:  # the scorer closed that too
            pass
        _redirect(self._path, number)


def _redirect(path: str, *numbers: int, keep: bool = False) -> int | None:
    """Make the descriptors write at the end of `path`; the descriptor to read it by, where it is to be kept."""
    target = os.open(path, os.O_RDWR | os.O_CREAT | (0 if keep else os.O_APPEND), 0o600)
    for number in numbers:
        os.dup2(target, number)
    if keep:
        return target
    if target not in numbers:
        os.close(target)
    return None
