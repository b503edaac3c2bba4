"""Data sets of the hub as rows: names, splits and configurations, and the commit that a run keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from rft_cli.config.hub_names import HubName, hub_name
from rft_cli.runs import Run
from tests.command import Ended, rft
from tests.faults.jobs import SMALL
from tests.hub import Hub

A, B = "a" * 40, "b" * 40
SCORER = "def score(completion, example):\n    return float(completion == example['answer'])\n"
CARD = """---
configs:
- config_name: main
  data_files: [{split: train, path: main/train-*}, {split: test, path: main/test-*}]
- config_name: socratic
  data_files: [{split: train, path: socratic/train-*}]
---
"""


def math(folder: Path, word: str) -> Path:
    for config, split, rows in (("main", "train", 4), ("main", "test", 2), ("socratic", "train", 1)):
        (folder / config).mkdir(parents=True, exist_ok=True)
        columns = {
            "question": [f"{word} {config} {split} {n}?" for n in range(rows)],
            "answer": ["007"] * rows,
        }
        pyarrow.parquet.write_table(
            pyarrow.table(columns), folder / config / f"{split}-00000-of-00001.parquet"
        )
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def hub(tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    for split in ("train", "validation"):
        (plain / f"{split}.jsonl").write_text(json.dumps({"question": f"{split}?", "answer": "007"}) + "\n")
    server = Hub(A, {
        "org/math": {A: math(tmp_path / "one", "first"), B: math(tmp_path / "two", "second")},
        "org/plain": plain,
    })  # fmt: skip
    yield server
    server.close()


def run(folder: Path, hub: Hub, *args: str, **env: str) -> Ended:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    (work / "scorer.py").write_text(SCORER)
    return rft(*args, folder=work, env={**hub.environment(folder / "hf"), **env})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("openai/gsm8k:train", HubName("openai/gsm8k", None, None, "train")),
        ("openai/gsm8k", HubName("openai/gsm8k")),
        (
            "openai/gsm8k/main@refs/pr/1:train[:10]",
            HubName("openai/gsm8k", "main", "refs/pr/1", "train[:10]"),
        ),
        ("data/train.jsonl", None),
        ("data/rows.csv:train", None),
        ("./a/b", None),
        ("/a/b", None),
        ("../a/b", None),
        ("~/a", None),
        ("train", None),
        ("-", None),
    ],
)
def test_names(name: str, found: HubName | None) -> None:
    assert hub_name(name) == found
    assert found is None or str(found) == name


def test_a_job_takes_rows_of_the_hub_and_keeps_their_commit(tmp_path, hub):
    files = ("-t", "org/math:train", "-v", "org/math:test", "--reward-model", "scorer.py")
    done = run(tmp_path, hub, "create", *files, *SMALL, "--name", "a", "--n-epochs", "1")
    assert done.code == 0, done.err
    assert "org/math:train: configuration 'main' is taken; there also is: socratic" in done.err
    kept = Run(tmp_path / "work/runs/a")
    assert kept.info["settings"]["data.train"] == f"org/math/main@{A}:train"
    assert kept.info["asked_data"] == {"data.train": "org/math:train", "data.validation": "org/math:test"}
    hub.main = B  # the branch moves on, and the same command is given again
    again = ("train", "--resume", "a", *files, *SMALL, "--n-epochs", "2")
    done = run(tmp_path, hub, *again)
    assert done.code == 0, done.err
    texts = [
        json.loads(line)["prompt"]
        for line in (kept.path / "rollouts/step-000001.jsonl").read_text().splitlines()
    ]
    assert all(text.startswith("first main train") for text in texts)
    other = run(tmp_path, hub, "train", "--resume", "a", "-t", f"org/math/main@{B}:train", "--n-epochs", "3")
    assert other.code == 2
    assert "data.train: org/math/main@" in other.err


def test_splits_by_what_the_rows_are_for(tmp_path, hub):
    done = run(
        tmp_path,
        hub,
        "validate",
        "-t",
        "org/plain",
        "-v",
        "org/plain",
        "--reward-model",
        "scorer.py",
        "--json",
    )
    assert done.code == 0, done.err
    assert "training file" not in done.err
    checks = {check["name"]: check["detail"] for check in json.loads(done.out)["checks"]}
    assert checks["train rows"] == "org/plain: 1 row, format gsm8k"
    # What is in the cache is enough where there is no network.
    offline = run(tmp_path, hub, "validate", "-t", "org/plain:train", HF_HUB_OFFLINE="1")
    assert offline.code == 0, offline.err


@pytest.mark.parametrize(
    ("name", "message", "fix"),
    [
        ("org/nope:train", "there is no such file, and the hub has no data set org/nope", "check the name"),
        ("org/math:dev", "the data set has no split 'dev'", "it has: train, test"),
        ("org/math/other:train", "org/math has no configuration 'other'", "it has: main, socratic"),
        ("org/math@v9:train", "org/math has no revision 'v9'", "name a branch"),
        ("org/gated", "the data set org/gated is gated", "ask for access"),
    ],
)
def test_one_message_for_each(tmp_path, hub, name, message, fix):
    done = run(tmp_path, hub, "validate", "-t", name)
    assert done.code == 2
    assert done.problems == [f"{name}: {message}"]
    assert f"fix: {fix}" in done.err


def test_no_network(tmp_path, hub):
    done = run(tmp_path, hub, "validate", "-t", "org/other:train", HF_HUB_OFFLINE="1")
    assert done.code == 2
    (problem,) = done.problems
    assert problem.startswith("org/other:train: there is no such file, and the hub can't be reached")


def test_grade_and_audit_take_tables_and_the_hub(tmp_path, hub):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/x.csv").write_text("question,answer,completion\nq,007,007\n\nq,007,7\nq,7\n")
    done = run(tmp_path, hub, "grade", "--reward-model", "scorer.py", "x.csv")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["grade"]["reward"] for row in rows] == [1.0, 0.0]
    assert done.code == 2
    assert done.problems == ["x.csv:5: 2 values, but the header has 3 columns"]
    done = run(tmp_path, hub, "grade", "--reward-model", "scorer.py", "--gold", "org/math:test", "--summary")
    assert json.loads(done.out)["reward"]["mean"] == 1.0, done.err
