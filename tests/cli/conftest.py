"""A small job's files, and the command line run in this process with output and exit code apart."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rft_cli.cli import app

SCORER = """
def score(completion, example):
    return {"reward": float(completion.strip() == example["output"]), "short": float(len(completion) < 20)}
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    """No terminal, no hub, no settings from outside, and a working directory of its own."""
    for name in os.environ:
        if name.startswith("RFT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)


@dataclass
class Result:
    """What one command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def rft():
    """Run `rft` with these arguments, in this process; what it starts is not traced."""

    def run(*args: str) -> Result:
        untraced = {name: None for name in os.environ if name.startswith("COVERAGE_")}
        found = CliRunner().invoke(app, [str(arg) for arg in args], prog_name="rft", env=untraced)
        return Result(found.exit_code, found.stdout, found.stderr)

    return run


def rows(start: int, count: int) -> list[dict]:
    return [{"task": "Add.", "input": f"{n} + 1", "output": str(n + 1)} for n in range(start, start + count)]


def write_jsonl(path: Path, values: list[dict]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


@pytest.fixture
def files(tmp_path):
    """train.jsonl, val.jsonl, test.jsonl and scorer.py in the working directory."""
    write_jsonl(tmp_path / "train.jsonl", rows(0, 6))
    write_jsonl(tmp_path / "val.jsonl", rows(100, 4))
    write_jsonl(tmp_path / "test.jsonl", rows(200, 4))
    (tmp_path / "scorer.py").write_text(SCORER)
    return tmp_path


GOOD = ("-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py")
