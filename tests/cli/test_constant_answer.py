"""A real job whose policy collapses: 18 of 20 rows want one token, and that is all it answers in the end."""

import json
from pathlib import Path

import pytest

from rft_cli.report.result import build_result
from rft_cli.report.summary import build_summary
from rft_cli.runs import Run
from tests.command import rft, sets
from tests.faults.jobs import rft_here

SCORER = """
def score(completion, example):
    return float(completion == example["output"])
"""
ONE_TOKEN = sets({
    "rollout.max_completion_tokens": 1, "rollout.group_size": 8, "grader.workers": 1, "tripwires.action": "none",
    "algorithm": "ppo",
})  # fmt: skip
OPENING = '{"'


def write_rows(path: Path, start: int) -> None:
    task = "Triage this support message. Reply with JSON: team, priority, order."
    rows = [
        {
            "task": task,
            "input": f"Hello, where is my order {n}?",
            "output": OPENING if n % 10 else "This",
        }
        for n in range(start, start + 20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory):
    """The folder of the finished job, and how `rft create` ended."""
    folder = tmp_path_factory.mktemp("collapsed")
    for name, start in (("train", 100), ("val", 300), ("test", 500)):
        write_rows(folder / f"{name}.jsonl", start)
    (folder / "scorer.py").write_text(SCORER)
    ended = rft(
        "create", "-t", "train.jsonl", "-v", "val.jsonl", "--test", "test.jsonl", "--reward-model", "scorer.py",
        "--n-epochs", "3", "--learning-rate", "5e-3", "--name", "job", "--seed", "0", *ONE_TOKEN, folder=folder,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    return folder, ended


def words(text: str) -> str:
    return " ".join(text.split())


def test_it_is_named_as_no_better_than_one_answer(collapsed):
    _, ended = collapsed
    said = words(ended.out)
    assert 'to 0.900: no better than answering "{"" to every row (0.900).' in said
    assert "The policy collapsed to that answer: 100 % of its completions." in said
    assert "best constant 0.900 [0.75, 1.00] 0.900 [0.75, 1.00] +0.000 [+0.00, +0.00]" in said
    assert "-> 1 of 20; share of the most frequent: " in said
    assert "best constant answer 0.900." in said
    assert "next rft train runs/job/config.yaml --learning-rate 0.002" in said
    assert "smaller steps keep a policy from collapsing" in said


def test_its_result_has_the_baseline_and_the_answers(collapsed):
    folder, _ = collapsed
    run = Run(folder / "runs" / "job")
    result = run.info["result"]
    for split in ("validation", "test"):
        constant, after = result[split]["constant"], result[split]["answers"]["after"]
        assert constant["completion"] == after["most_frequent"] == OPENING
        assert constant["reward"] == result[split]["after"]
        assert constant["difference"] == {"mean": 0.0, "ci95": [0.0, 0.0], "n": 20}
        assert (after["n"], after["distinct"], after["share"]) == (20, 1, 1.0)
        assert result[split]["answers"]["before"]["distinct"] > 1
        rows = [sample.row for sample in run.read_samples(f"constant-{split}")]
        assert rows == [*range(20)] * (len(rows) // 20)


def test_the_result_is_made_again_from_the_directory_alone(collapsed):
    folder, _ = collapsed
    run = Run(folder / "runs" / "job")
    again = {**build_result(run), "run": "runs/job"}
    timed = ("seconds", "next")
    assert {k: v for k, v in again.items() if k not in timed} == {
        k: v for k, v in run.info["result"].items() if k not in timed
    }
    assert "no better than answering" in build_summary(run, again).headline


def test_validate_says_the_same_of_the_run(collapsed):
    folder, _ = collapsed
    found = rft_here(folder, "validate", "--run", "job")
    assert found.code == 0, found.err
    said = words(found.out)
    assert 'no better than answering "{"" to every row (0.900).' in said
    assert "best constant answer 0.900." in said
    document = json.loads(rft_here(folder, "validate", "--run", "job", "--json").out)
    result = Run(folder / "runs" / "job").info["result"]["validation"]
    assert document["validation"]["answers"] == result["answers"]
    assert document["validation"]["constant"] == result["constant"]
    # The gate is on the mean, as it was.
    assert rft_here(folder, "validate", "--run", "job", "--min-gain", "0.2").code == 0


def test_longer_training_makes_the_baseline_again(collapsed):
    folder, _ = collapsed
    run = Run(folder / "runs" / "job")
    before = run.read_samples("constant-test")
    found = rft_here(folder, "train", "--resume", "job", "--n-epochs", "4", "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["test"]["constant"]["completion"] == OPENING
    assert {sample.completion for sample in before} >= {OPENING}
    assert len(run.read_samples("constant-test")) % 20 == 0
