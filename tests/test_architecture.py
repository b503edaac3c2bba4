"""docs/architecture.md is true: each step of its walk names a file and what is in it, and calls the next one."""

from __future__ import annotations

import ast
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
MOST_FILES = 20
RETURNS = ("(pipe)", "(TRL)", "(back)")
"""How a step ends whose successor is called by another."""
STEP = re.compile(r"^\d+\. `(?P<file>rft_cli/[\w/]+\.py)` `(?P<name>[\w.]+)`(?P<text>.*)$")


@dataclass(frozen=True)
class Step:
    """One numbered line: a file, what of it takes part, and whether it calls the next step itself."""

    file: str
    name: str
    calls_next: bool

    @property
    def source(self) -> str:
        return (ROOT / self.file).read_text(encoding="utf-8")


def walk(text: str) -> list[Step]:
    """The steps of the page, in order."""
    found = [STEP.match(line) for line in text.splitlines()]
    return [Step(m["file"], m["name"], not m["text"].endswith(RETURNS)) for m in found if m]


def defines(source: str, name: str) -> bool:
    """Whether the module defines this function, class or `Class.method`."""
    body: list[ast.stmt] = ast.parse(source).body
    for part in name.split("."):
        named = [node for node in body if getattr(node, "name", None) == part]
        if not named:
            return False
        body = getattr(named[0], "body", [])
    return True


def problems(steps: list[Step]) -> list[str]:
    """What of the walk is not true."""
    missing = [f"no {step.file}" for step in steps if not (ROOT / step.file).is_file()]
    if missing:
        return missing
    found = [f"{s.file} has no {s.name}" for s in steps if not defines(s.source, s.name)]
    for step, following in itertools.pairwise(steps):
        called = following.name.rsplit(".", 1)[-1]
        names = [following.name.split(".")[0]] if called == "__call__" else [called]
        uses = any(re.search(rf"\b{name}\b", step.source) for name in names)
        if step.file != following.file and step.calls_next and not uses:
            found.append(f"{step.file} does not use {following.name} of {following.file}")
    return found


def test_the_walk_is_true():
    steps = walk(PAGE.read_text(encoding="utf-8"))
    assert len(steps) > 10
    assert problems(steps) == []
    assert len({step.file for step in steps}) <= MOST_FILES


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1. `rft_cli/gone.py` `main`", "no rft_cli/gone.py"),
        ("1. `rft_cli/cli.py` `gone`", "rft_cli/cli.py has no gone"),
        ("1. `rft_cli/job.py` `Job.gone`", "rft_cli/job.py has no Job.gone"),
        (
            "1. `rft_cli/errors.py` `UsageError`\n2. `rft_cli/job.py` `load_job`",
            "rft_cli/errors.py does not use load_job of rft_cli/job.py",
        ),
    ],
)
def test_what_is_not_true_is_found(line, problem):
    assert problems(walk(line)) == [problem]


RULES = re.compile(r"^\| (?P<rule>[^|]+\?) \| `(?P<file>[\w/.]+)` `(?P<name>[\w.]+)` \|$", re.MULTILINE)


def test_the_rules_are_where_contributing_says():
    rules = list(RULES.finditer((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert len(rules) >= 10
    for rule in rules:
        source = (ROOT / rule["file"]).read_text(encoding="utf-8")
        assert defines(source, rule["name"]) or re.search(rf"^{rule['name']}\b.* = ", source, re.MULTILINE), (
            rule["rule"]
        )
