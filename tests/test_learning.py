"""The short learning test: the quickstart, cut to six epochs, learns on rows it never saw. `make learn` does more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.timeout(900)
def test_the_quickstart_learns(tmp_path: Path) -> None:
    data = ROOT / "sample_data"
    done = subprocess.run(
        [
            sys.executable, "-m", "rft_cli", "create", "-t", str(data / "train.jsonl"), "-v", str(data / "val.jsonl"),
            "--test", str(data / "test.jsonl"), "--reward-model", str(data / "scorer.py"), "--n-epochs", "6",
            "--output-dir", str(tmp_path), "--min-gain", "0.3", "--json",
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    before, after = result["test"]["before"], result["test"]["after"]
    assert before["n"] == after["n"] == 240
    assert before["mean"] <= 0.50
    assert after["mean"] >= 0.80
    assert before["ci95"][1] < after["ci95"][0]
    assert result["completions_sampled"] == 6 * 48 * 8
