"""A run goes on though files beside its checkpoints are damaged or gone: they are restored, made again, or named."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rft_cli.runs import Run
from rft_cli.runs.records import FOLDER
from tests.faults.jobs import FILES, SMALL, make_files, rft_here, tree

PREPARED = ("--resume", "a", "--n-epochs", "3", "--quiet")


@pytest.fixture
def run(tmp_path: Path, finished: Callable[[Path], Run]) -> Run:
    """Two epochs of one step each; checkpoints 1 and 2."""
    return finished(tmp_path)


def halve(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def test_validations_and_metrics_are_restored_from_the_checkpoint(run: Run, tmp_path: Path) -> None:
    whole = {p: p.read_bytes() for p in (run.path / "validation").glob("step-*.jsonl")}
    lines = run.metrics_path.read_bytes()
    validation = run.path / "validation"
    (validation / "step-000000.jsonl").unlink()
    halve(validation / "step-000001.jsonl")
    # Of the newest checkpoint itself, which was saved before: sampled again.
    last = validation / "step-000002.jsonl"
    last.write_text("".join(last.read_text().splitlines(keepends=True)[:2]) + '{"row": 2')
    run.metrics_path.write_bytes(b"\0" + lines[1:])
    (run.path / "rollouts" / "step-000000.jsonl").unlink()
    done = rft_here(tmp_path, "train", *PREPARED)
    assert done.code == 0, done.err
    said = re.sub(r"\s+", " ", done.err)
    newest = "runs/a/checkpoints/step-2"
    for text in (
        f"runs/a/metrics.jsonl was damaged: restored from {newest}",
        f"runs/a/validation/step-000000.jsonl was missing: restored from {newest}",
        f"runs/a/validation/step-000001.jsonl was damaged: restored from {newest}",
        "validation/step-000002.jsonl has 2 whole lines of 4: they are sampled again",
        "runs/a/rollouts/step-000000.jsonl is missing: the counts of grades in the result go without it",
    ):
        assert text in said, done.err
    assert run.metrics_path.read_bytes().startswith(lines)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    timing = re.compile(rb'"seconds": [0-9.e-]+')
    for path, content in whole.items():
        assert timing.sub(b"", path.read_bytes()) == timing.sub(b"", content), path


def test_a_run_whose_files_are_whole_says_nothing(run: Run, tmp_path: Path) -> None:
    done = rft_here(tmp_path, "train", *PREPARED)
    assert done.code == 0, done.err
    told = [line for line in done.err.splitlines() if line.startswith("warning") and "junk" not in line]
    assert told == []


def without_records(run: Run) -> None:
    """As checkpoints were before they held any."""
    for step in run.checkpoints():
        folder = run.checkpoint_path(step)
        shutil.rmtree(folder / FOLDER)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"] = {n: e for n, e in manifest["files"].items() if not n.startswith(FOLDER)}
        (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_checkpoint_without_records_goes_on_and_lost_lines_are_named(run: Run, tmp_path: Path) -> None:
    without_records(run)
    run.metrics_path.write_text(run.metrics_path.read_text().splitlines(keepends=True)[1])
    done = rft_here(tmp_path, "train", *PREPARED)
    assert done.code == 0, done.err
    assert "metrics.jsonl has no line for step 1: it can't be made again" in re.sub(r"\s+", " ", done.err)


def test_a_baseline_that_is_nowhere_is_told_before_training(run: Run, tmp_path: Path) -> None:
    without_records(run)
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
