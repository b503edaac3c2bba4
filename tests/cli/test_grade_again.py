"""`rft grade --run`: a run's completions under another scorer, with real worker processes and no model."""

import json
import subprocess
import sys

import pytest

from rft_cli.runs.files import sha256_of
from tests.cli.conftest import rows, write_jsonl
from tests.command import environment
from tests.view.made_runs import line, make_run, sample

BRIEF = "def score(completion):\n    return 1.0 - len(completion) / 10\n"
"""The old scorer, which made the stored grades, paid for length."""
FUSSY = """
def score(completion, example):
    if completion == "bb":
        raise ValueError("no b, please")
    return float(completion == example["output"])
"""


def completions(texts, start=100):
    """A completion of each row, with the reward of a scorer that pays for length."""
    return [sample(row, len(text) / 4, text, f"Add.\n\n{start + row} + 1") for row, text in enumerate(texts)]


@pytest.fixture
def run(files):
    """A finished run whose best step is the one with the longest completions, with rows, scorer and hashes."""
    hashes = {"validation": sha256_of(files / "val.jsonl"), "test": sha256_of(files / "test.jsonl")}
    made = make_run(
        files / "runs", "long", lines=[line(1)], best_step=8, hashes=hashes,
        validations={0: completions(["a", "a", "a", "a"]), 4: completions(["bb", "bb", "b", "b"]),
                     8: completions(["cccc", "ccc", "cccc", "ccc"])},
    )  # fmt: skip
    made.write_config(
        f"data: {{train: {files}/train.jsonl, validation: {files}/val.jsonl, test: {files}/test.jsonl}}\n"
        f"grader: {{path: {files}/scorer.py}}\n"
    )
    (files / "brief.py").write_text(BRIEF)
    (files / "fussy.py").write_text(FUSSY)
    return made


def test_old_against_new_by_step_and_the_best_checkpoint_that_would_be(rft, run):
    done = rft("grade", "--run", "long", "--reward-model", "brief.py", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["schema"] == "rft.regrade/1"
    assert [(s["split"], s["step"]) for s in found["steps"]] == [
        ("validation", 0),
        ("validation", 4),
        ("validation", 8),
    ]
    last = found["steps"][-1]
    assert last["old"]["mean"] == pytest.approx(3.5 / 4)
    assert last["new"]["mean"] == pytest.approx(1 - 3.5 / 10)
    assert last["new_gain"]["mean"] == pytest.approx(-0.25)
    assert last["new_gain"]["ci95"][1] < 0
    assert found["ranking"] == {
        "old": [8, 4, 0], "new": [0, 4, 8],
        "best": {"old": 8, "new": 0, "changes": True, "saved": True},
    }  # fmt: skip
    assert found["rows"]["reversed"] == 4
    assert found["grades"]["graded"] == 12
    # What was learned is worse than the base under the new scorer: the job starts anew.
    assert found["next"] == "rft train runs/long/config.yaml --reward-model brief.py"
    shown = rft("grade", "--run", "latest", "--reward-model", "brief.py")
    assert "The best checkpoint would be another: the base in place of step 8." in shown.out
    assert "4 rows gained under the old grader and lost under the new one." in shown.out


def test_no_torch_is_loaded(run):
    code = (
        "import sys; from rft_cli.cli import main; sys.argv = ['rft', *sys.argv[1:]]\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    command = [sys.executable, "-c", code, "grade", "--run", "long", "--reward-model", "brief.py", "--json"]
    done = subprocess.run(command, cwd=run.path.parents[1], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["grades"]["graded"] == 12


def test_what_the_scorer_fails_on_is_counted_and_the_rest_goes_on(rft, run):
    done = rft("grade", "--run", "long", "--reward-model", "fussy.py", "--json")
    assert done.code == 3
    found = json.loads(done.out)
    assert (found["grades"]["graded"], found["grades"]["failed"]) == (10, 2)
    assert found["steps"][1]["grades"] == {"graded": 2, "skipped": 0, "failed": 2}
    assert "no b, please" in found["error"]["message"]
    assert found["next"] is None
    assert found["why"].startswith("2 grades of 12 failed, so there is nothing to go by: raised: ")
    spared = ["--set", "grader.max_failure_rate=0.5"]
    done = rft("grade", "--run", "long", "--reward-model", "fussy.py", *spared)
    assert done.code == 0
    assert "2 failed grades of 12 left out: 2 × raised" in done.err
    assert spared[1] in done.out


def test_rows_that_moved_are_found_again_and_changed_ones_refused(rft, run, files):
    (files / "val.jsonl").rename(files / "moved.jsonl")
    done = rft("grade", "--run", "long", "--reward-model", "brief.py")
    assert done.code == 2
    assert "data.validation: " in done.err
    assert "say where the file is now: -v FILE" in done.err
    done = rft("grade", "--run", "long", "--reward-model", "brief.py", "-v", "moved.jsonl", "--json")
    assert done.code == 0
    assert json.loads(done.out)["next"].endswith("-v moved.jsonl")
    write_jsonl(files / "val.jsonl", rows(100, 5))
    done = rft("grade", "--run", "long", "--reward-model", "brief.py")
    assert done.code == 2
    assert "val.jsonl has changed since the run (SHA-256 " in done.err
    assert "Traceback" not in done.err


def test_completions_of_other_rows_are_left_out(rft, run):
    strangers = [sample(row, 1.0, "dd", "another prompt") for row in range(3)]
    run.write_samples("step-000012", strangers)
    done = rft("grade", "--run", "long", "--reward-model", "brief.py", "--json")
    assert done.code == 0
    assert any("3 validation completions left out" in note for note in json.loads(done.out)["notes"])


def test_flags_that_have_no_meaning_beside_a_run(rft, run):
    done = rft("grade", "--run", "long", "--run", "long", "--reward-model", "brief.py")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: --run was given 2 times: long, long")
    assert "rft compare long long" in done.err
    done = rft("grade", "--run", "long", "--gold", "--reward-model", "brief.py", "val.jsonl")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: --run takes no FILE, --gold")
    assert rft("grade", "--rollouts", "--reward-model", "brief.py", "val.jsonl").code == 2
    done = rft("grade", "--run", "nothing", "--reward-model", "brief.py")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: nothing is not a run")


def test_the_runs_own_scorer_as_it_is_now(rft, run, files):
    (files / "scorer.py").write_text("def score(completion):\n    return 0.25\n")
    done = rft("grade", "--run", "long", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["graders"]["new"]["grader"] == f"{files}/scorer.py"
    assert found["steps"][0]["new"]["mean"] == 0.25
    assert "--reward-model" not in found["next"]
    run.update(hashes={**run.info["hashes"], "grader": found["graders"]["new"]["sha256"]})
    again = json.loads(rft("grade", "--run", "long", "--json").out)
    assert again["next"] is None
    assert "the grader that the run was trained with" in again["why"]
    assert "\nnext" not in rft("grade", "--run", "long").out
