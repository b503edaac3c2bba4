"""Rows of three kinds, and `rft grade --audit` as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SCORERS = Path(__file__).parent / "scorers"


@dataclass
class Audited:
    """How the command ended, and its document."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)

    def named(self, level: str) -> list[str]:
        """The names of the findings of this level, in order."""
        return [finding["name"] for finding in self.document["findings"] if finding["level"] == level]

    def finding(self, name: str) -> dict[str, Any]:
        (found,) = [finding for finding in self.document["findings"] if finding["name"] == name]
        return found


Rft = Callable[..., Audited]


@pytest.fixture
def rft(tmp_path: Path) -> Rft:
    """Run `rft` in the repository, 80 columns wide, with nothing set from outside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RFT_")}

    def run(*args: str, rows: str | None = None) -> Audited:
        done = subprocess.run(
            [sys.executable, "-m", "rft_cli", *args],
            cwd=ROOT,
            env={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "NO_COLOR": "1", "TMPDIR": str(tmp_path)},
            input=rows,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Audited(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def audit(rft: Rft) -> Rft:
    """`rft grade --audit --json` with a scorer of this folder."""

    def run(scorer: str, *args: str, rows: str | None = None) -> Audited:
        path = scorer if "/" in scorer else str(SCORERS / f"{scorer}.py")
        return rft("grade", "--reward-model", path, "--audit", "--json", *args, rows=rows)

    return run
