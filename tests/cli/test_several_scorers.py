"""A job whose reward is the weighted sum of several functions of other tools' forms: trained, resumed elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rft_cli.runs import Run
from tests.faults.jobs import SMALL, make_files, rft_here

TRL = '''"""TRL: completions and columns; how they are read is in the project's own package."""

from project.letters import share


def letters(completions, output, completion_ids, **kwargs):
    assert all(isinstance(ids, list) and ids for ids in completion_ids)
    assert open("data/word.txt").read() == "word"
    return [share(text) for text in completions]
'''
VERL = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": float(solution_str.strip() == ground_truth), "long": float(len(solution_str) > 4)}
"""
HELPER = "def share(text):\n    return len(set(text)) / (1 + len(text))\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small job's files, with two scorers of one name in folders of their own and what they import and open."""
    folder = make_files(tmp_path / "project", rows=4)
    for name, text in {
        "a/scorer.py": TRL,
        "b/scorer.py": VERL,
        "project/letters.py": HELPER,
        "data/word.txt": "word",
    }.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def create(folder: Path, *more: str) -> Run:
    scorers = ("--reward-model", "a/scorer.py", "--reward-model", "b/scorer.py=0.5")
    files = ("-t", "train.jsonl", "-v", "val.jsonl")
    done = rft_here(folder, "create", *files, *scorers, "--name", "job", "--n-epochs", "1", *SMALL, *more)
    assert done.code == 0, done.err
    return Run.open(folder / "runs" / "job")


def test_trained_resumed_from_another_folder_and_measured_again(folder: Path, tmp_path: Path) -> None:
    run = create(folder)
    for sample in rollout_lines(run):
        grade = sample["grade"]
        parts = grade["components"]
        assert list(parts) == ["letters", "compute_score", "compute_score.long"]
        assert grade["reward"] == pytest.approx(parts["letters"] + 0.5 * parts["compute_score"])
    assert sorted(path.name for path in (run.path / "scorer").iterdir()) == ["scorer-2.py", "scorer.py"]
    assert {"grader", "grader 1", "grader 2"} <= run.info["hashes"].keys()
    assert run.info["grader_modules"].keys() == {"project/letters.py"}
    assert run.info["settings"]["grader.folder"] == str(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    resumed = rft_here(elsewhere, "train", "--resume", run.path, "--n-epochs", "2")
    assert resumed.code == 0, resumed.err
    assert [line["step"] for line in run.metrics()] == [1, 2]
    measured = rft_here(elsewhere, "validate", "--run", run.path, "--json")
    assert measured.code == 0, measured.err


def rollout_lines(run: Run) -> list[dict]:
    files = sorted((run.path / "rollouts").glob("step-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_a_part_or_a_helper_that_has_changed_stops_the_run(folder: Path) -> None:
    run = create(folder)
    (folder / "project" / "letters.py").write_text("def share(text):\n    return 1.0\n")
    stopped = rft_here(folder, "train", "--resume", run.path, "--n-epochs", "2")
    assert stopped.code == 2
    assert "grader.path/project/letters.py: the scorer imports it, and it has changed" in stopped.err
    (folder / "project" / "letters.py").write_text(HELPER)
    (folder / "b" / "scorer.py").write_text(VERL + "\n# changed\n")
    stopped = rft_here(folder, "train", "--resume", run.path, "--n-epochs", "2")
    assert stopped.code == 2
    assert "/b/scorer.py=0.5 has changed\n" in stopped.err.replace("\n      ", "")
    assert "b/scorer.py=0.5" in stopped.err


def test_a_run_goes_on_where_its_scorers_were_moved(folder: Path) -> None:
    run = create(folder)
    (folder / "b" / "scorer.py").rename(folder / "verl.py")
    (folder / "a" / "scorer.py").unlink()
    resumed = rft_here(folder, "train", "--resume", run.path, "--n-epochs", "2")
    assert resumed.code == 0, resumed.err
    said = " ".join(resumed.err.split())
    assert "scorer.py is missing, the same file is at" in said
