"""The audits that docs/graders.md shows are what the command prints today."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.command import ROOT, rft

PAGE = (ROOT / "docs" / "graders.md").read_text(encoding="utf-8")
WEAK = (Path(__file__).parent / "scorers" / "weak.py").read_text(encoding="utf-8")
LATENCY = re.compile(r"[\d.]+ ms median, [\d.]+ ms slowest")


def shown(name: str) -> str:
    """The block under this audit's mark."""
    found = re.search(rf"<!-- audit of {re.escape(name)} -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_weak_scorer_is_the_one_in_the_tests() -> None:
    assert re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL) == [WEAK]


@pytest.mark.parametrize(("scorer", "code"), [("sample_data/scorer.py", 0), ("weak.py", 1)])
def test_the_audit_on_the_page(scorer: str, code: int, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    (tmp_path / "weak.py").write_text(WEAK)
    arguments = ("grade", "--reward-model", scorer, "--audit", "sample_data/val.jsonl")
    done = rft(*arguments, folder=tmp_path, env={"COLUMNS": "80"})
    assert done.code == code, done.err
    lines = [line.rstrip() for line in done.out.splitlines()]
    printed, page = (LATENCY.sub("LATENCY", text) for text in ("\n".join(lines) + "\n", shown(scorer)))
    assert printed == page
    assert LATENCY.search(shown(scorer))
    assert max(map(len, lines)) <= 80
