"""The GPU check: what it says of a machine, its figures and its table; `make faults` runs all of it on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu_report import figures, table
from tests.command import FULL, ROOT, environment

SCRIPT = ROOT / "scripts" / "gpu_check.sh"


def check(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPT, *arguments],
        env=environment(PYTHON=sys.executable), capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def test_an_option_that_it_does_not_know_shows_how_it_is_used():
    done = check("--shape", "tiny")
    assert done.returncode == 2
    assert "scripts/gpu_check.sh [--out DIR]" in done.stderr


def test_figures_are_medians_of_the_last_steps(tmp_path: Path):
    lines = [
        {"rollout_seconds": s, "update_seconds": 1.0, "step_seconds": s + 1.0, "completion_tokens": 100.0}
        for s in (50.0, 50.0, 2.0, 4.0)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = figures(tmp_path, completions=8, device="cuda")
    assert (found["steps"], found["rollout_s"], found["update_s"], found["step_s"]) == (4, 3.0, 1.0, 4.0)
    # 8 completions of 100 tokens in 3 s
    assert found["tokens_a_second"] == pytest.approx(800 / 3)


def test_the_table_says_what_was_skipped_and_what_failed():
    done = {
        "shape": "0.5b", "engine": "transformers", "rollout_s": 1.0, "update_s": 2.0, "step_s": 3.0,
        "tokens_a_second": 12345.6, "peak_gb": 7.89, "killed_and_resumed": True, "export": "merged", "seconds": 61.7,
    }  # fmt: skip
    jobs = [
        done,
        {"shape": "7b", "engine": "transformers", "failed": "7b ended with exit code 3"},
        {"shape": "0.5b", "engine": "vllm", "skipped": "vLLM is not installed"},
    ]
    text = table({"device": "a GPU", "versions": {"torch": "2.11"}, "seconds": 99.6, "jobs": jobs})
    head, _, columns, _, *lines = text.splitlines()
    assert head == "a GPU, torch 2.11; 100 s in all."
    assert all(line.count("|") == columns.count("|") for line in lines)
    assert lines[0] == "| 0.5b | transformers | 1.00 | 2.00 | 3.00 | 12,346 | 7.9 | yes | merged | 62 |"
    assert "failed: 7b ended with exit code 3" in lines[1]
    assert "skipped: vLLM is not installed" in lines[2]


@pytest.mark.skipif(not FULL, reason="minutes: make faults runs it")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_it_on_the_cpu(tmp_path: Path):
    done = check("--device", "cpu", "--shapes", "tiny", "--out", str(tmp_path), timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "gpu-check.json").read_text())
    line = found["jobs"][0]
    assert (line["steps"], line["killed_and_resumed"], line["export"]) == (4, True, "merged")
    assert line["tokens_a_second"] > 0
    assert line["peak_gb"] > 0
    assert (tmp_path / "gpu-check.md").read_text() == done.stdout
    assert not (tmp_path / "work").exists()
