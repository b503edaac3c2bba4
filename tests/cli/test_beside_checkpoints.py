"""A run resumes although files beside its checkpoints are damaged or missing: they are made again, or named."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rft_cli.runs import Run
from tests.faults.jobs import FILES, SMALL, make_files, rft_here, tree

PREPARED = ("--resume", "a", "--n-epochs", "3", "--quiet")


@pytest.fixture
def run(tmp_path: Path, finished: Callable[[Path], Run]) -> Run:
    """Two epochs of one step each; checkpoints 1 and 2."""
    return finished(tmp_path)


def test_a_damaged_validation_of_the_newest_step_is_sampled_again(run: Run, tmp_path: Path) -> None:
    validation = run.path / "validation"
    whole = {p: p.read_bytes() for p in validation.glob("step-*.jsonl")}
    last = validation / "step-000002.jsonl"
    last.write_text("".join(last.read_text().splitlines(keepends=True)[:2]) + '{"row": 2')
    done = rft_here(tmp_path, "train", *PREPARED)
    assert done.code == 0, done.err
    assert "validation/step-000002.jsonl has 2 whole lines of 4: they are sampled again" in re.sub(
        r"\s+", " ", done.err
    )
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    timing = re.compile(rb'"seconds": [0-9.e-]+')
    for path, content in whole.items():
        assert timing.sub(b"", path.read_bytes()) == timing.sub(b"", content), path


def test_a_run_whose_files_are_whole_says_nothing(run: Run, tmp_path: Path) -> None:
    done = rft_here(tmp_path, "train", *PREPARED)
    assert done.code == 0, done.err
    told = [line for line in done.err.splitlines() if line.startswith("warning") and "junk" not in line]
    assert told == []


def test_lost_lines_of_metrics_are_named(run: Run, tmp_path: Path) -> None:
    run.metrics_path.write_text(run.metrics_path.read_text().splitlines(keepends=True)[1])
    done = rft_here(tmp_path, "train", *PREPARED)
    assert done.code == 0, done.err
    assert "metrics.jsonl has no line for step 1: it can't be made again" in re.sub(r"\s+", " ", done.err)


def test_a_baseline_that_is_nowhere_is_told_before_training(run: Run, tmp_path: Path) -> None:
    (run.path / "validation" / "step-000000.jsonl").unlink()
    before = tree(tmp_path)
    done = rft_here(tmp_path, "train", *PREPARED)
    assert (done.code, done.out) == (2, "")
    assert (
        "error: runs/a/validation/step-000000.jsonl is missing: without the base model's samples" in done.err
    )
    assert tree(tmp_path) == before


def test_a_newer_checkpoint_is_no_damaged_one(run: Run, tmp_path: Path) -> None:
    manifest = run.checkpoint_path(2) / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema_version": 2}))
    before = tree(tmp_path)
    done = rft_here(tmp_path, "train", *PREPARED)
    assert done.code == 2
    assert "checkpoints/step-2 was written by a newer rft: its manifest has schema version 2" in done.err
    assert tree(tmp_path) == before


def test_a_finished_run_loses_the_drafts_of_its_killed_writer(run: Run, tmp_path: Path) -> None:
    draft = run.path / ".run.json.4711-0123abcd"
    draft.write_text("{")
    (run.path / ".lock-holder").write_text("{}")
    done = rft_here(tmp_path, "train", "--resume", "a")
    assert (done.code, done.out) == (2, "")
    assert [line for line in done.err.splitlines() if line.startswith("error")] == [
        next(line for line in done.err.splitlines() if "error: runs/a is finished: mean reward" in line)
    ]
    assert not draft.exists()
    assert not (run.path / ".lock-holder").exists()


RAISES = """
def score(completion, example):
    if len(completion) % 2 and len(completion) > 5:
        raise ValueError("odd")
    return len(completion) / 40
"""


def test_a_resumed_run_writes_the_messages_of_the_first(tmp_path: Path) -> None:
    make_files(tmp_path, rows=4)
    (tmp_path / "scorer.py").write_text(RAISES)
    more = ("--set", "grader.max_failure_rate=1", "--set", "grader.timeout_s=20")
    flags = ("--n-epochs", "1", "--name", "a", "--output-dir", "my runs", "--json")
    done = rft_here(tmp_path, "create", *FILES, *SMALL, *more, *flags)
    assert done.code == 0, done.err
    assert "'my runs/a" in json.loads(done.out)["next"]
    run = Run(tmp_path / "my runs" / "a")
    done = rft_here(tmp_path, "train", "--resume", "my runs/a", "--n-epochs", "2", "--json")
    assert done.code == 0, done.err
    reasons = json.loads(done.out)["grader"]["reasons"]
    assert [reason["message"] for reason in reasons] == ["scorer.py:4: ValueError: odd"]
    samples = [row["grade"]["error"] for row in run.rollouts() if row["grade"]["error"]]
    assert {error["message"] for error in samples} == {"scorer.py:4: ValueError: odd"}
    done = rft_here(tmp_path, "train", "--resume", "my runs/a")
    assert "rft train --resume 'my runs/a' --n-epochs 4" in done.err
