"""All problems of the settings come in one run of a command; then all of the data, the grader and the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command import rft as rft_outside

Told = Callable[..., list[str]]
CHECK = {
    "type": "string_check",
    "name": "c",
    "operation": "eq",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answr }}",
}
SPEC = {
    "type": "multi",
    "name": "m",
    "graders": {"c": CHECK, "p": {"type": "python", "name": "p", "source": "def grade(sample): return 1"}},
    "calculate_output": "c + q",
}
KEY = "error: train.jsonl:1: {{ item.answr }}: the row has no key 'answr' (keys: prompt, answer)"
FORMULA = "error: spec.json:1:277: calculate_output: column 5: there is no grader 'q'"
TIMEOUT = "error: --set grader.timeout_s: must be a number > 0 or 'auto' (got -1)"


@pytest.fixture
def told(tmp_path: Path, rft: Any) -> Told:
    """Run `rft` in a folder with files, and give the lines of its errors; its code is 2."""
    row = json.dumps({"prompt": "a", "answer": "b"}) + "\n"
    (tmp_path / "train.jsonl").write_text(row)
    (tmp_path / "bad.jsonl").write_text("{]\n")
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    (tmp_path / "good.json").write_text(json.dumps({**CHECK, "reference": "{{ item.answer }}"}))
    (tmp_path / "scorer.py").write_text("def score(a):\n  return (\n")

    def run(*arguments: str, notes: bool = False) -> list[str]:
        made = rft(*arguments)
        assert made.code == 2, made.err
        lines = made.err.splitlines()
        return lines if notes else [line for line in lines if line.startswith("error")]

    return run


def test_settings_come_first_then_everything_else(told: Told) -> None:
    job = ["-t", "train.jsonl", "-v", "bad.jsonl", "--reward-model", "spec.json", "--model", "gpt-4o"]
    bad_rows = "error: bad.jsonl:1:2: not valid JSON: "
    model = "error: gpt-4o is a hosted model: its weights can't be trained here"
    for command in (["create"], ["validate"]):
        lines = told(*command, *job, "--set", "grader.timeout_s=-1", "--set", "optim.n_epocs=2")
        assert sorted(lines) == [TIMEOUT, "error: --set: optim.n_epocs: unknown setting"]
        lines = told(*command, *job)
        assert {FORMULA, model} <= set(lines)
        assert any(line.startswith(bad_rows) for line in lines)


def test_grading_looks_at_every_file_before_the_first_row(told: Told) -> None:
    gone = ["error: gone.jsonl: no such file", "error: lost.jsonl: no such file"]
    files = ["gone.jsonl", "train.jsonl", "lost.jsonl"]
    assert told("grade", "--reward-model", "good.json", *files) == gone
    assert told("grade", "--reward-model", "spec.json", *files) == [FORMULA, *gone]
    assert told("grade", "--reward-model", "spec.json", "--set", "grader.timeout_s=-1", *files) == [TIMEOUT]


def job(**more: Any) -> str:
    method = {"type": "reinforcement", "reinforcement": {"grader": CHECK, "hyperparameters": {"n_epochs": 1}}}
    return json.dumps({"model": "o4-mini", "training_file": "train", "method": method, **more})


def test_a_job_of_openai_in_every_command(told: Told, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(job(metdata={}, suffix="s", validation_file="gone"))
    for command in ("create", "train", "validate"):
        errors = told(command, "--from-openai", "job.json")
        assert errors[0].endswith(": metdata: unknown in a fine-tuning job")
        assert errors[1].endswith(": validation_file: no file 'gone' beside the job")
        assert errors[2:] == []
    (tmp_path / "job.json").write_text(job(suffix="s", validation_file="train"))
    for command in ("create", "train", "validate"):
        lines = told(command, "--from-openai", "job.json", notes=True)
        if command != "validate":
            assert lines[0].startswith("job.json sets data.train = train.jsonl, the grader, ")
        assert KEY in lines
    assert told("validate", "--from-openai", "job.json", "--run", "latest") == [
        "error: --from-openai and --run exclude each other"
    ]
    assert told("grade", "--from-openai", "job.json", "--reward-model", "good.json", "train.jsonl") == [
        "error: --reward-model and --from-openai name two graders"
    ]
    assert told("train") == ["error: there is no CONFIG.yaml"]
    (tmp_path / "job.json").write_text("{")
    assert [line.split(": ")[1] for line in told("validate", "--from-openai", "job.json")] == ["job.json:1:2"]


def test_grading_takes_the_grader_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(job())
    row = b'{"completion": "x", "answr": "x"}\n'
    made = rft_outside("grade", "--from-openai", "job.json", folder=tmp_path, given=row)
    assert made.code == 0, made.err
    assert json.loads(made.out)["grade"]["reward"] == 1.0
