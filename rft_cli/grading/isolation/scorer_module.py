"""Makes the scorer a module that the processes it starts with multiprocessing can import.

Under spawn and forkserver such a process starts without the scorer. It gets the names of its functions, and this
process's `sys.path`, in which it finds their module.
"""

from __future__ import annotations

import sys
from pathlib import Path

MODULE = "rft_scorer"
"""The name of a scorer's module, whatever its file is."""
_FOLDER = "rft_module"
_INSTALLED = ("site-packages", "dist-packages")
_TEXT = """\
__file__ = {path!r}
with open({copy!r}, "rb") as _copy:
    exec(compile(_copy.read(), __file__, "exec"))
"""


def lay_out(scratch: Path, path: str, content: bytes) -> None:
    """Write the module under `scratch`: it runs these bytes of the scorer as the file at `path`."""
    folder = scratch / _FOLDER
    folder.mkdir()
    copy = folder / "source"
    copy.write_bytes(content)
    text = _TEXT.format(path=path, copy=str(copy))
    (folder / f"{MODULE}.py").write_text(text, encoding="utf-8", errors="surrogateescape")


def let_find(scratch: str) -> None:
    """In a worker: let processes that it starts find the module, after everything else."""
    sys.path.append(f"{scratch}/{_FOLDER}")


def let_import(folder: str, home: str) -> None:
    """In a worker: find modules beside the scorer first, and those of `home` before installed packages.

    The standard library comes before `home`: a project may have a file named like one of its modules.
    """
    sys.path.insert(0, folder)
    if home and home != folder:
        installed = (place for place, entry in enumerate(sys.path) if entry.endswith(_INSTALLED))
        sys.path.insert(next(installed, len(sys.path)), home)


def finds_scorer(entry: str) -> bool:
    """Whether this entry of `sys.path` is that of `let_find`."""
    return entry.endswith(f"/{_FOLDER}")
