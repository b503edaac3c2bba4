"""In a worker, under OpenAI's limits: refuses the network and files of this machine to a scorer.

Python's own sockets and files are refused when they are opened (PEP 578). Code in C and child processes are not
stopped, except by a network that the kernel took away.
"""

from __future__ import annotations

import os

from rft_cli.grading.isolation.openai_packages import python_folders

CONNECTING = frozenset(
    {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"}
)
"""Audit events (PEP 578) of Python's sockets that reach, or are about to reach, another machine."""
NO_NETWORK = "no network: grader.limits is openai"
NO_FILES = "a file of this machine, and OpenAI's graders have none: grader.limits is openai"

_UNIX = 1  # AF_UNIX, which is not worth importing socket for
_ANY_MACHINE = ("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr")
"""Folders of the system: OpenAI's machine has them too, with contents of its own."""
_TEMPORARY = "/tmp/"
"""A scorer may write files there, and read those that it made."""
_fsdecode, _realpath = os.fsdecode, os.path.realpath
_exists = os.path.exists
_create, _empty, _access, _write = os.O_CREAT, os.O_TRUNC, os.O_ACCMODE, os.O_WRONLY
_error, _refused = (OSError, TypeError, ValueError), PermissionError


class OpenAIAccess:
    """Allows files in the worker's `folder`, of Python and of the system, and those whose path begins as one of `own`.

    `own` are the files that the worker itself may have to open again.
    """

    def __init__(self, folder: str, own: tuple[str, ...]) -> None:
        roots = {folder, *python_folders(), *_ANY_MACHINE}
        both = {*roots, *map(os.path.realpath, roots)} - {"/"}
        self._open = (*(f"{root.rstrip(os.sep)}{os.sep}" for root in both), *own)
        self._made: set[str] = set()

    def check(self, event: str, arguments: tuple[object, ...]) -> None:
        """Called with each audit event; raises PermissionError."""
        if event == "open":
            self._check_file(arguments)
        elif event in CONNECTING and not _is_local(arguments):
            raise _refused(NO_NETWORK)

    def _check_file(self, arguments: tuple[object, ...]) -> None:
        path, flags = arguments[0], arguments[2]
        if not isinstance(path, (str, bytes)):
            return  # a descriptor: it was opened before
        try:
            text = _fsdecode(path)
            place = _realpath(text)
        except _error:
            return  # no path: opening it fails by itself
        if f"{place}/".startswith(self._open) or place in self._made or "/nltk_data/" in place:
            return
        if place.startswith(_TEMPORARY) and isinstance(flags, int) and flags & _create:
            if flags & _empty or not _exists(place):
                self._made.add(place)
                return
            # What it appends to may be another worker's: it reads none of it.
            if flags & _access == _write:
                return
        raise _refused(f"{text}: {NO_FILES}")


def _is_local(arguments: tuple[object, ...]) -> bool:
    """Whether a socket event is about a socket of the file system, which reaches no other machine."""
    family = getattr(arguments[0], "family", None) if arguments else None
    return family == _UNIX
