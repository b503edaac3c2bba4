"""The short learning test: the quickstart, cut to three epochs, learns on rows it never saw. `make learn` does more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import ROOT, rft


@pytest.mark.timeout(900)
def test_the_quickstart_learns(tmp_path: Path) -> None:
    data = ROOT / "sample_data"
    done = rft(
        "create", "-t", data / "train.jsonl", "-v", data / "val.jsonl", "--test", data / "test.jsonl",
        "--reward-model", data / "scorer.py", "--n-epochs", "3", "--min-gain", "0.3", "--json",
        folder=tmp_path, timeout=850,
    )  # fmt: skip
    assert done.code == 0, done.err[-3000:]
    result = json.loads(done.out)
    before, after = result["test"]["before"], result["test"]["after"]
    assert before["n"] == after["n"] == 240
    assert before["mean"] <= 0.50
    assert after["mean"] >= 0.80
    assert before["ci95"][1] < after["ci95"][0]
    assert result["completions_sampled"] == 3 * 48 * 8
