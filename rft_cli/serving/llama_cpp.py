"""Finds llama.cpp's server on this machine: the program in PATH, else the one inside the package xllamacpp."""

from __future__ import annotations

import importlib.util
import shutil
import sys

PROGRAM = "llama-server"
"""llama.cpp's server, as it is called in PATH."""
PACKAGE = "xllamacpp"
"""The same server as a Python wheel."""
INSTALL = (
    "pip install 'rft-cli[llamacpp]'; or install llama.cpp (https://github.com/ggml-org/llama.cpp), so that "
    f"{PROGRAM} is in PATH"
)
MISSING = f"the program {PROGRAM} or the package {PACKAGE}"


def server_command() -> list[str] | None:
    """The server's command without its flags; None where there is none. The program in PATH wins."""
    program = shutil.which(PROGRAM)
    if program is not None:
        return [program]
    if importlib.util.find_spec(PACKAGE) is None:
        return None
    return [sys.executable, "-P", "-m", "rft_cli.serving.llama_wheel"]
