"""Standard output for results, standard error for people; both may be closed or lose their reader."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from rft_cli.errors import RftError, RunFailed, UsageError


def repair_streams() -> None:
    """Make standard output and error usable; call it once, before anything else.

    A failed write to standard error is not an error: whether somebody reads it must not change what a command does."""
    _fill_closed()
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = open(os.devnull, "w") if sys.stderr is None else _ignoring_errors(sys.stderr)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # Model output may hold any character; a stream that can't write one gets a replacement, not a traceback.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _fill_closed() -> None:
    """Open descriptors that the caller closed (`<&-`): pipes to workers would get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # the lowest number that is free
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def need_stdout() -> None:
    """Raise UsageError if standard output was closed from the start (`>&-`): results would be lost."""
    if sys.__stdout__ is None:
        raise UsageError(
            "standard output is closed: the results would be lost", "send it to a file, or to /dev/null"
        )


def _ignoring_errors(stream: TextIO) -> TextIO:
    try:
        raw = _IgnoresErrors(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):
        # not a file: a test's or a notebook's stream
        return stream
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=stream.encoding, line_buffering=True)


class _IgnoresErrors(io.FileIO):
    """A file that ignores write errors: its reader is gone, or its disk is full."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def is_first_process() -> bool:
    """Whether this process prints: it is alone, or the first of those that a launcher started."""
    rank = os.environ.get("RANK", "")
    return not rank.isdecimal() or int(rank) == 0


def print_json(document: Mapping[str, Any], error: RftError | None = None) -> None:
    """Print the command's one JSON document; non-finite numbers become null.

    `error`: what the command is about to raise; it goes into the document under `error`.
    """
    from rft_cli.runs.files import finite

    if error is not None:
        document = {**document, "error": error.to_json()}
        error.in_document = True
    print(json.dumps(finite(document), indent=2))


def check_writable(file: str | None) -> None:
    """Raise UsageError if a result file can't be written at the end."""
    if file is None:
        return
    folder = Path(file).absolute().parent
    if Path(file).is_dir() or file.endswith(os.sep):
        raise UsageError(f"{file}: is a folder", f"name a file in it: {Path(file, 'summary.json')}")
    if not folder.is_dir():
        raise UsageError(f"{file}: there is no folder {folder}", "name a file in an existing folder")
    if not os.access(file if Path(file).exists() else folder, os.W_OK):
        raise UsageError(f"{file}: can't be written: no permission", "name a file that you may write")


def write_json(file: str, document: Mapping[str, Any]) -> None:
    """Write the document to a file, in one step; non-finite numbers become null.

    A device, a pipe or a link is written directly: a rename would replace it.
    """
    from rft_cli.runs.files import finite, write_atomic

    path, text = Path(file), json.dumps(finite(document), indent=2) + "\n"
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_text(text, encoding="utf-8")
        else:
            write_atomic(path, text)
    except OSError as error:
        raise UsageError(f"{file}: can't be written: {error.strerror or error}") from error


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Redirect standard output to standard error inside the block, also for C code and child processes.

    Libraries print while they train. Results are printed after the block, so standard output holds nothing else.
    """
    sys.stdout.flush()
    try:
        # not inheritable: a worker that outlives us must not keep our pipe open
        saved = os.dup(1)
        os.dup2(2, 1)
    except OSError:
        # one of them is closed
        saved = None
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if saved is not None:
            sys.stderr.flush()
            os.dup2(saved, 1)
            os.close(saved)


@contextlib.contextmanager
def results() -> Iterator[None]:
    """Print results inside: a closed pipe (`| head`) ends the printing, not the command."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        forget_stdout()
    except OSError as error:
        raise cannot_print(error) from None


def cannot_print(error: OSError) -> RunFailed:
    """The error for standard output that can't be written, for example on a full disk."""
    forget_stdout()
    return RunFailed(f"standard output can't be written: {error.strerror or error}")


def forget_stdout() -> None:
    """Discard standard output: its reader is gone, and Python would print an error at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
