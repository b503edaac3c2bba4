"""A grader that fails too often in a job: the job stops with a report, and the run says so."""

from __future__ import annotations

import json
from pathlib import Path

from rft_cli.runs import Run
from tests.faults.jobs import rft_here

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


def test_a_job_stops_with_a_report(tmp_path: Path) -> None:
    rows = [{"task": "Add.", "input": f"{n} + 1", "output": str(n + 1)} for n in range(24)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:16]))
    (tmp_path / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[16:]))
    (tmp_path / "scorer.py").write_text(SCORER)
    sets = (part for item in SMALL for part in ("--set", item))
    data = ("-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py")
    ended = rft_here(tmp_path, "create", *data, "--name", "first", *sets)
    assert ended.code == 3, ended.err
    assert "grades failed (grader.max_failure_rate is 10%):" in ended.err
    assert "× raised: scorer.py:6: ValueError: not this one" in ended.err
    assert 'raise ValueError("not this one")' in ended.err  # the traceback of one of them
    assert Run(tmp_path / "runs" / "first").info["status"] == "failed"
