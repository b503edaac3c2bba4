"""Standard streams that are closed or read by nobody, and an environment that a launcher did not set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import environment

SCORER = """
def score(completion, example):
    if completion == "raise":
        raise ValueError("no good")
    return float(completion == example["output"])
"""


@pytest.fixture
def shell(tmp_path: Path):
    """Run a line of bash in which `rft` is the command; what it printed to standard output."""
    (tmp_path / "scorer.py").write_text(SCORER)
    rows = [
        {"prompt": "1", "output": "a", "completion": "a"},
        {"prompt": "2", "output": "b", "completion": "x"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(line: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f'rft() {{ "{sys.executable}" -m rft_cli "$@"; }}; {line}'],
            cwd=tmp_path,
            env=environment(**env),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


GRADE = "rft grade --reward-model scorer.py rows.jsonl"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"{GRADE} --min-reward .9", 1),
        ("rft validate -t rows.jsonl --reward-model none.py", 2),
    ],
)
def test_nobody_reads_standard_error(shell, command: str, code: int) -> None:
    """Neither a reader that has gone nor a full disk changes the exit code."""
    gone = shell(f"{{ {command}; echo $? >code; }} 2>&1 >/dev/null | true; cat code")
    assert gone.stdout == f"{code}\n"
    assert shell(f"{command} >/dev/null 2>&-; echo $?").stdout == f"{code}\n"
    if Path("/dev/full").is_char_device():
        assert shell(f"{command} >/dev/null 2>/dev/full; echo $?").stdout == f"{code}\n"


def test_rows_are_whole_where_nobody_reads_standard_error(shell) -> None:
    done = shell(f"{GRADE} 2>&-")
    assert [json.loads(line)["grade"]["reward"] for line in done.stdout.splitlines()] == [1.0, 0.0]


@pytest.mark.parametrize(
    "command", [GRADE, f"{GRADE} --json", f"{GRADE} --audit", "rft validate -t rows.jsonl"]
)
def test_a_closed_standard_output_would_lose_the_results(shell, command: str) -> None:
    done = shell(f"{command} >&-")
    assert done.returncode == 2
    assert done.stderr == (
        "error: standard output is closed: the results would be lost\n  fix: send it to a file, or to /dev/null\n"
    )
    assert shell("rft --version >&-").stderr == ""


def test_a_number_of_processes_that_is_none(shell, tmp_path: Path) -> None:
    spec = {"type": "score_model", "name": "q", "model": "m", "input": [{"role": "user", "content": "x"}]}
    (tmp_path / "judge.json").write_text(json.dumps(spec))
    for said in ("abc", "0"):
        done = shell("rft grade --reward-model judge.json rows.jsonl", WORLD_SIZE=said, OPENAI_API_KEY="k")
        assert done.returncode == 2
        assert f"WORLD_SIZE in the environment is '{said}', which is not a valid process count" in done.stderr
        assert "fix: unset it" in done.stderr
    job = shell(
        "rft create -t rows.jsonl -v rows.jsonl --reward-model scorer.py --set grader.audit=none",
        WORLD_SIZE="abc",
    )
    assert job.returncode == 2
    assert "WORLD_SIZE in the environment is 'abc'" in job.stderr
    assert shell(f"{GRADE} --quiet", RANK="abc").returncode == 0
    assert "no such file" in shell("rft grade --reward-model none.py", RANK="abc").stderr
