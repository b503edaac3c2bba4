"""Standard streams as the shell left them: closed, or with a reader that has gone."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

from rft_cli.errors import UsageError


def repair_streams() -> None:
    """Make standard output and error usable. What can't be shown on standard error is lost, and no error: it is for
    people, and whether somebody reads it must not change what a command does. Call it once, first of all."""
    _fill_closed()
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = open(os.devnull, "w") if sys.stderr is None else _unheeded(sys.stderr)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # Model output may hold any character; a stream that can't write one gets a replacement, not a traceback.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _fill_closed() -> None:
    """Open what the caller closed (`<&-`): pipes to workers would take the numbers, and be taken for terminals."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


def need_stdout() -> None:
    """Raise UsageError where standard output was closed from the start (`>&-`): results would be lost."""
    if sys.__stdout__ is None:
        raise UsageError(
            "standard output is closed: the results would be lost", "send it to a file, or to /dev/null"
        )


def _unheeded(stream: TextIO) -> TextIO:
    try:
        raw = _Unheeded(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):  # no file: a test's or a notebook's own
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=stream.encoding, line_buffering=True)


class _Unheeded(io.FileIO):
    """A file whose errors in writing are passed over: its reader has gone, or its disk is full."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)
