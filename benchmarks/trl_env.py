"""An environment of its own for TRL 1.12.0, the last release with a PPOTrainer: made the first time it is needed.

It lies in build/bench/trl-1.12 and takes every version from constraints.txt but TRL's; rft_cli itself is read from the
checkout, because both sides encode prompts, grade and validate with the same functions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.side import BUILD, ROOT

VERSION = "1.12.0"
FOLDER = BUILD / f"trl-{VERSION}"
NEEDS = (
    f"trl=={VERSION}", "torch", "transformers", "accelerate", "datasets", "numpy",
    "pydantic", "filelock", "jsonlines", "pyyaml", "safetensors",
)  # fmt: skip


class NotInstalled(RuntimeError):
    """The environment can't be made here; the message is pip's last line."""


def python() -> Path:
    """The environment's interpreter; raises NotInstalled where the packages can't be had."""
    interpreter, stamp = FOLDER / "bin" / "python", FOLDER / ".made"
    if stamp.is_file():
        return interpreter
    print(
        f"installing TRL {VERSION} into {FOLDER.relative_to(ROOT)} (once; a minute or more) ...",
        file=sys.stderr,
    )
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    constraints = FOLDER.with_suffix(".constraints.txt")
    constraints.write_text("".join(pin for pin in pins if not pin.startswith("trl==")), encoding="utf-8")
    _run([sys.executable, "-m", "venv", str(FOLDER)])
    _run([str(interpreter), "-m", "pip", "install", "--quiet", "-c", str(constraints), *NEEDS])
    stamp.touch()
    return interpreter


def _run(command: list[str]) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstalled(f"TRL {VERSION} can't be installed: {said[-1] if said else command[-1]}")
