"""`rft create --dry-run` finds what the job would find, says how long it would be, and writes nothing."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import GOOD, rows, write_jsonl
from tests.faults.jobs import small_arguments


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_the_plan_is_what_the_job_does(rft, finished, tmp_path):
    run = finished(tmp_path)
    before = tree(tmp_path)
    told = rft(*small_arguments("a")[:-1], "b", "--dry-run", "--json")
    assert told.code == 0, told.err
    document = json.loads(told.out)
    plan = document["plan"]
    assert (plan["steps"], plan["epochs"]) == (run.metrics()[-1]["step"], run.metrics()[-1]["epoch"])
    assert plan["completions"] == run.metrics()[-1]["completions"]
    sampled = [run.count_samples(f"step-{step:06d}") for step in range(plan["validations"])]
    assert sum(sampled) == plan["validation_completions"]
    assert not run.has_samples(f"step-{plan['validations']:06d}")
    assert plan["model"]["parameters"] > 100_000
    assert plan["settings"]["optim.learning_rate"] == 0.001
    assert plan["settings"]["rollout.prompts_per_batch"] == 4  # of 16: the file has so many rows
    assert (document["run"], document["status"]) == ("runs/b", "ok")
    assert document["settings"]["pilot.prompts"] == 0
    assert tree(tmp_path) == before


def test_a_run_that_is_resumed(rft, finished, tmp_path):
    finished(tmp_path)
    before = tree(tmp_path)
    over = rft("train", "--resume", "runs/a", "--dry-run")
    assert (over.code, over.err.splitlines()[0].split(":")[:2]) == (2, ["error", " runs/a is finished"])
    told = rft("train", "--resume", "runs/a", "--n-epochs", "5", "--dry-run")
    assert told.code == 0, told.err
    assert "5 steps in 5 epochs" in told.out
    assert "2 are done" in told.out
    given = told.out[told.out.index("settings given") :].splitlines()[:2]
    assert (given[0].split(), given[1]) == (["settings", "given", "optim.n_epochs:", "5"], "")
    assert tree(tmp_path) == before


def test_what_people_read(rft, files):
    told = rft("create", *GOOD, "--test", "test.jsonl", "--dry-run", "--n-epochs", "2")
    assert told.code == 0, told.err
    lines = told.out.splitlines()
    assert lines[-1] == "Nothing was trained, and nothing was written."
    assert lines[-2].startswith("run   runs/")
    assert "measured by the pilot" in told.out
    assert "optim.n_epochs: 2" in told.out
    assert "learning rate 2.0e-04" in told.err
    assert not (files / "runs").exists()


def test_every_problem_is_told_and_the_exit_code_is_the_jobs(rft, files):
    (files / "runs" / "taken").mkdir(parents=True)
    wrong = (
        "create",
        "-t",
        "train.jsonl",
        "-v",
        "none.jsonl",
        "--reward-model",
        "scorer.py",
        "--name",
        "taken",
    )
    dry, real = rft(*wrong, "--dry-run"), rft(*wrong)
    assert dry.code == real.code == 2
    errors = [line for line in dry.err.splitlines() if line.startswith("error")]
    assert errors == [line for line in real.err.splitlines() if line.startswith("error")]
    assert len(errors) == 2
    document = json.loads(rft(*wrong, "--dry-run", "--json").out)
    assert (document["status"], document["plan"], len(document["problems"])) == ("failed", None, 2)
    assert document["error"]["exit_code"] == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--set", "lora.enabled=true", "--set", "lora.target_modules=[nothing]"],
            "the model has no nothing",
        ),
        (["--num-processes", "8"], "6 rows for 8 processes"),
        (["--set", "model.dtype=float16"], "float16 trains on GPUs alone"),
    ],
)
def test_what_the_models_configuration_shows(rft, files, more, message):
    told = rft("create", *GOOD, *more, "--dry-run")
    assert (told.code, message in told.err) == (2, True), told.err


def test_a_prompt_without_room_is_a_problem(rft, files):
    write_jsonl(files / "train.jsonl", [*rows(0, 3), {"task": "Add.", "input": "1 " * 900, "output": "1"}])
    told = rft("create", *GOOD, "--dry-run")
    assert told.code == 2
    assert "train.jsonl:4: the prompt has" in told.err
    assert not (files / "runs").exists()
    assert "ok       train rows" in told.out


def test_several_processes_share_the_rows(rft, files):
    told = rft(
        "create", *GOOD, "--num-processes", "2", "--model", "builtin/tiny", "--dry-run", "--json", "--quiet"
    )
    assert (told.code, told.err) == (0, "")
    plan = json.loads(told.out)["plan"]
    assert (plan["processes"], plan["settings"]["rollout.prompts_per_batch"]) == (2, 6)
