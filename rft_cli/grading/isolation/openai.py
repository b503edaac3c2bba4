"""In a worker, under OpenAI's limits: no network, no files of this machine, only the packages of OpenAI's image.

Python's own sockets and files are refused when they are opened (PEP 578). Code in C and child processes are not
stopped, except by a network that the kernel took away. The packages are OpenAI's list for `image_tag` 2025-05-08, and
`_REQUIRED` is what those cannot be installed without. Their versions are whatever rft's environment has.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_NEW_USER, _NEW_NETWORK = 0x1000_0000, 0x4000_0000


def leave_network() -> bool:
    """Move this process, which must have one thread, into a network namespace of its own without any device.

    False where the kernel refuses (no user namespaces, or not Linux).
    """
    if sys.platform != "linux":
        return False
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
        return False
    # Without these the process would be "nobody" to itself. What it may do with files is unchanged.
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        try:
            Path("/proc/self", name).write_text(text)
        except OSError:
            continue
    return True


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


_PACKAGES = (
    "numpy scipy sympy pandas rapidfuzz sklearn rouge_score deepdiff jsonschema pydantic yaml nltk sqlparse rdkit "
    "skbio ast_grep_py"
)
_REQUIRED = (
    "mpmath dateutil pytz tzdata six joblib threadpoolctl absl orderly_set attr attrs referencing rpds "
    "jsonschema_specifications pydantic_core annotated_types typing_extensions click regex tqdm PIL natsort decorator "
    "h5py biom statsmodels patsy requests"
)
_NAMES = {"sklearn": "scikit-learn", "yaml": "pyyaml", "skbio": "scikit-bio", "rouge_score": "rouge-score"}
_INSIDE = frozenset({*_PACKAGES.split(), *_REQUIRED.split(), *sys.stdlib_module_names})
_KEPT = ("rft_", "__")
_frame, _missing = sys._getframe, ModuleNotFoundError


def in_image(module: str) -> bool:
    """Whether OpenAI's image has this module."""
    return module.partition(".")[0] in _INSIDE


def not_in_image(module: str) -> str:
    """The message for a scorer that imports this module."""
    return f"'{module.partition('.')[0]}' is not in OpenAI's grader image (grader.limits: openai)"


def install_name(module: str) -> str:
    """What `pip install` calls a package of the image."""
    top = module.partition(".")[0]
    return _NAMES.get(top, top.replace("_", "-"))


class OnlyTheImage:
    """An import hook: what the file at `path` imports itself must be in the image. Libraries import what they need."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by `import`: None leaves the module to the other finders."""
        if path is None and name not in _INSIDE and self._asked_by_scorer():
            raise _missing(not_in_image(name), name=name)
        return None

    def _asked_by_scorer(self) -> bool:
        frame = _frame(2)
        while frame.f_back is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        if frame.f_code.co_filename.endswith("importlib/__init__.py") and frame.f_back is not None:
            frame = frame.f_back  # importlib.import_module
        return frame.f_code.co_filename == self._path


def stand_alone(path: str, kept: str) -> None:
    """From now on the scorer at `path` imports only what the image has, and no modules from elsewhere.

    An entry of `sys.path` that ends with `kept` stays.
    """
    sys.path[:] = [entry for entry in sys.path if _of_python(entry) or entry.endswith(kept)]
    sys.meta_path.insert(0, OnlyTheImage(path))
    for name in [name for name in sys.modules if not (in_image(name) or name.startswith(_KEPT))]:
        # rft's modules that need it hold it already.
        del sys.modules[name]


def python_folders() -> set[str]:
    """Folders in which Python and its packages lie."""
    site = sys.modules.get("site")
    user = getattr(site, "USER_SITE", None)
    return {sys.prefix, sys.base_prefix, sys.exec_prefix, *([user] if user else [])}


def _of_python(entry: str) -> bool:
    return any(entry == folder or entry.startswith(f"{folder}/") for folder in python_folders())
