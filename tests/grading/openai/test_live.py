"""A pipe that is written row by row: each graded row comes before the next one is written."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command import RFT, environment
from tests.grading.judge.servers import JudgeServer

CHECK = {
    "type": "string_check",
    "name": "c",
    "operation": "eq",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.n }}",
}
PYTHON = {
    "type": "python",
    "name": "p",
    "source": "def grade(sample, item):\n    print('row', item['n'])\n    return 1",
}
JUDGE = {
    "type": "score_model",
    "name": "j",
    "model": "judge-model",
    "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
}
MULTI = {
    "type": "multi",
    "name": "m",
    "graders": {"p": PYTHON, "c": CHECK, "j": JUDGE},
    "calculate_output": "p + c + j",
}
SPECS = [(CHECK, 1.0), (PYTHON, 1.0), (JUDGE, 0.5), (MULTI, 2.5)]


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    server = JudgeServer()
    yield server
    server.close()


@pytest.mark.parametrize(("spec", "reward"), SPECS, ids=lambda value: str(value)[:24])
def test_each_row_at_once(spec: Any, reward: float, server: JudgeServer, tmp_path: Path) -> None:
    (tmp_path / "grader.json").write_text(json.dumps(spec))
    sets = [f"grader.judge.base_url={server.url}", "grader.judge.api_key_env=none", "grader.judge.cache=none"]
    process = subprocess.Popen(
        [
            *RFT,
            "grade",
            "--reward-model",
            "grader.json",
            *(part for item in sets for part in ("--set", item)),
        ],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for number in range(4):
            row = json.dumps({"completion": str(number), "n": number}).encode() + b"\n"
            process.stdin.write(row[:9])  # half a line, and a blank one after it, hold nothing back
            process.stdin.flush()
            process.stdin.write(row[9:] + b"\n")
            process.stdin.flush()
            assert select.select([process.stdout], [], [], 60)[0], f"row {number} did not come"
            graded = json.loads(process.stdout.readline())
            assert (graded["n"], graded["grade"]["reward"]) == (number, reward), graded
        process.stdin.close()
        assert process.stdout.read() == b""
        told = process.stderr.read().decode() if process.stderr is not None else ""
    assert process.returncode == 0, told
    if spec in (PYTHON, MULTI):
        assert [line for line in told.splitlines() if ": row" in line] == [
            f"stdin:{2 * number + 1}: row {number}" for number in range(4)
        ]
