"""Rows of three kinds, and `rft grade --audit` as a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import ROOT, Ended
from tests.command import rft as rft_outside

SCORERS = Path(__file__).parent / "scorers"


@dataclass(frozen=True)
class Audited(Ended):
    """How the command ended, and its document."""

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

    def run(*args: str, rows: str | None = None) -> Audited:
        env = {"COLUMNS": "80", "TMPDIR": str(tmp_path)}
        done = rft_outside(*args, folder=ROOT, given=(rows or "").encode(), env=env)
        return Audited(done.code, done.stdout, done.stderr)

    return run


@pytest.fixture
def audit(rft: Rft) -> Rft:
    """`rft grade --audit --json` with a scorer of this folder."""

    def run(scorer: str, *args: str, rows: str | None = None) -> Audited:
        path = scorer if "/" in scorer else str(SCORERS / f"{scorer}.py")
        return rft("grade", "--reward-model", path, "--audit", "--json", *args, rows=rows)

    return run
