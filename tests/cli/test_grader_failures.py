"""A grader that fails too often in a job: the job stops with a report, and the run says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rft_cli.runs import Run

# Well-behaved while the job is checked: the check gives no metadata, and training does.
SCORER = """
import random

def score(completion, example, metadata):
    if metadata and random.random() < 0.3:
        raise ValueError("not this one")
    return {"reward": float(completion.strip() == example["output"])}
"""
SMALL = (
    "rollout.group_size=8", "rollout.prompts_per_batch=16", "rollout.max_completion_tokens=4", "ppo.passes=1",
    "ppo.minibatches=1", "ppo.critic_warmup=0", "grader.workers=1",
)  # fmt: skip


def test_a_job_stops_with_a_report(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    rows = [{"task": "Add.", "input": f"{n} + 1", "output": str(n + 1)} for n in range(24)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:16]))
    (tmp_path / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[16:]))
    (tmp_path / "scorer.py").write_text(SCORER)
    ended = subprocess.run(
        [
            sys.executable, "-m", "rft_cli", "create", "-t", "train.jsonl", "-v", "val.jsonl", "--name", "first",
            "--reward-model", "scorer.py", *(part for item in SMALL for part in ("--set", item)),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(request.config.rootpath), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 3, ended.stderr
    assert "grades failed (grader.max_failure_rate is 10%):" in ended.stderr
    assert "× raised: scorer.py:6: ValueError: not this one" in ended.stderr
    assert 'raise ValueError("not this one")' in ended.stderr  # the traceback of one of them
    assert Run(tmp_path / "runs" / "first").info["status"] == "failed"
