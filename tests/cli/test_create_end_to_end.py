"""The real thing, small: create, resume, validate and a re-targeted run, on builtin/tiny with few short completions."""

import json
import shlex
from pathlib import Path

import pytest

from rft_cli.report.estimates import estimate
from rft_cli.runs import Run
from tests.command import rft
from tests.faults.jobs import rft_here

SCORER = """
def score(completion, example):
    print("scorers print too")
    return {"reward": min(1.0, len(completion) / 40), "json": float(completion.startswith("{"))}
"""
# Few rows, two completions a prompt, one update an epoch, at most eight tokens: seconds instead of minutes.
SMALL = [
    "rollout.group_size=2", "rollout.max_completion_tokens=8", "ppo.passes=1", "ppo.minibatches=1",
    "ppo.critic_warmup=0", "grader.workers=1", "validation.every_epochs=1",
]  # fmt: skip


def write_rows(path: Path, start: int, count: int) -> None:
    rows = ({"task": "Add.", "input": f"{n} + 1", "output": str(n + 1)} for n in range(start, start + count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A finished job of the real command: its folder, how `rft create --json` ended, and a way to run more here."""
    folder = tmp_path_factory.mktemp("job")
    for name, start in (("train", 0), ("val", 100), ("test", 200)):
        write_rows(folder / f"{name}.jsonl", start, 4)
    (folder / "scorer.py").write_text(SCORER)

    def more(*args):
        return rft_here(folder, *args)

    created = rft(
        "create", "-t", "train.jsonl", "-v", "val.jsonl", "--test", "test.jsonl", "--reward-model", "scorer.py",
        "--n_epochs", "2", "--learning_rate", "1e-3", "--seed", "1", "--name", "first", "--json",
        *(part for item in SMALL for part in ("--set", item)), folder=folder,
    )  # fmt: skip
    assert created.code == 0, created.err
    return folder, created, more


def test_stdout_is_the_result_and_nothing_else(job):
    folder, created, _ = job
    result = json.loads(created.out)
    saved = Run(folder / "runs" / "first")
    assert result == saved.info["result"]
    assert saved.info["status"] == "finished"
    assert (result["run"], result["seed"], result["algorithm"]) == ("runs/first", 1, "ppo")
    assert result["completions_sampled"] == 16
    assert result["checkpoints_compared"] == 2
    grader = result["grader"]
    assert [grader[status] for status in ("graded", "skipped", "failed")] == [16, 0, 0]
    assert (grader["failures"], grader["reasons"]) == ({}, [])
    assert 0 < grader["latency_s"]["p50"] <= grader["latency_s"]["p99"] < 30
    assert result["test"]["before"]["n"] == 4
    assert set(result["components"]) == {"json"}
    assert "scorers print too" not in created.out


def test_stderr_tells_the_course_of_the_job(job):
    _, created, _ = job
    assert "validation (base): reward" in created.err
    assert "validation (epoch 2.0, step 2): reward" in created.err
    assert "step 1/2" in created.err
    assert "Traceback" not in created.err
    assert "\x1b" not in created.err


def test_the_run_directory_holds_what_the_design_says(job):
    folder, created, _ = job
    saved = Run(folder / "runs" / "first")
    assert [row["step"] for row in saved.metrics()] == [1, 2]
    for row in saved.metrics():
        assert (row["grader_failed"], row["grader_skipped"], row["grader_failed_rate"]) == (0, 0, 0.0)
        assert 0 < row["grade_seconds_p50"] <= row["grade_seconds_p90"] <= row["grade_seconds_p99"]
    assert saved.validated_steps() == [0, 1, 2]
    assert len(list(saved.rollouts())) == 16
    assert all(saved.verify_checkpoint(step) is None for step in saved.checkpoints())
    best = json.loads(created.out)["best_step"]
    assert (saved.best_checkpoint() is None) == (best == 0)
    assert (saved.path / "scorer" / "scorer.py").read_text() == SCORER
    assert [p.name for p in (saved.path / "checkpoints").iterdir() if p.name.startswith(".")] == []


def test_validate_measures_the_run_and_gives_the_same_verdict_twice(job):
    folder, created, more = job
    Run(folder / "runs" / "first").set_best(2)  # whatever was learned: base and checkpoint are both measured
    first = more("validate", "--run", "latest", "--json")
    assert first.code == 0, first.err
    document = json.loads(first.out)
    assert document["best_step"] == 2
    assert document["validation"]["before"] == json.loads(created.out)["validation"]["before"]
    samples = Run(folder / "runs" / "first").read_samples("step-000002")
    assert document["validation"]["after"] == estimate(samples).to_json()
    gated = more("validate", "--run", "first", "--min-gain", "5")
    assert gated.code == 1
    assert "--min-gain 5 is not met" in gated.err
    assert "builtin/tiny against step 2 of runs/first" in gated.out


def test_resume_trains_longer_in_the_same_run(job):
    folder, _, more = job
    longer = more("train", "--resume", "first", "--n-epochs", "3", "--json")
    assert longer.code == 0, longer.err
    saved = Run(folder / "runs" / "first")
    assert [row["step"] for row in saved.metrics()] == [1, 2, 3]
    assert json.loads(longer.out)["completions_sampled"] == 24
    assert saved.info["status"] == "finished"
    again = more("train", "--resume", "first")
    assert (again.code, again.out) == (2, "")
    assert "error: runs/first is finished: mean reward " in again.err


def test_prompts_without_room_are_named_and_leave_no_run(job):
    folder, _, more = job
    rows = [{"prompt": "word " * 2000}, {"prompt": "short"}]
    (folder / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = sorted(p.name for p in (folder / "runs").iterdir())
    found = more("create", "-t", "long.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py")
    assert found.code == 2
    assert "error: long.jsonl:1: the prompt has" in found.err
    assert "long.jsonl:2" not in found.err
    assert sorted(p.name for p in (folder / "runs").iterdir()) == before


def test_a_run_is_the_base_of_another_with_a_changed_scorer(job):
    folder, _, more = job
    (folder / "shorter.py").write_text(
        "def score(completion):\n    return 1 - min(1.0, len(completion) / 40)\n"
    )
    found = more(
        "create", "-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "shorter.py", "-m", "first",
        "--n-epochs", "1", "--name", "second", "--quiet", "--min-gain", "9",
        *(part for item in SMALL for part in ("--set", item)),
    )  # fmt: skip
    assert found.code == 1, found.err
    lines = found.err.splitlines()
    assert lines[-1].startswith("error: --min-gain 9 is not met")
    assert all(line.startswith("warning: ") for line in lines[:-1])
    assert "run   runs/second" in found.out
    assert Run(folder / "runs" / "second").info["model"] == str(folder / "runs" / "first")


def test_a_lora_run_of_two_processes_is_the_base_of_a_full_one(job):
    folder, _, more = job
    common = [
        "create", "-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py", "--n-epochs", "1",
        *(part for item in SMALL for part in ("--set", item)),
    ]  # fmt: skip
    several = ("--num-processes", "2", "--report-to", "tensorboard")
    found = more(*common, "--name", "two", *several, "--set", "lora.enabled=true", "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["status"] == "finished"
    two = Run(folder / "runs" / "two")
    assert "2 processes" in found.err
    assert two.info["status"] == "finished"
    # the first process alone reports
    assert len(list((two.path / "tensorboard").iterdir())) == 1
    checkpoint = max((two.path / "checkpoints").glob("step-*"))
    assert (checkpoint / "adapter_config.json").is_file()
    # A model of this size is fully fine-tuned by default: all of its weights must be trained, merged ones too.
    found = more(*common, "--name", "full", "-m", str(checkpoint))
    assert found.code == 0, found.err
    assert "parameters, all weights, " in found.err


@pytest.mark.parametrize("model", [[], ["--model", "runs/first"]])
def test_the_command_that_trains_with_another_scorer_works(job, model):
    """What `rft grade --run` prints, from the base; and from the run, where that is better under the new scorer too."""
    folder, _, more = job
    (folder / "brief.py").write_text("def score(completion):\n    return 1 / (1 + len(completion))\n")
    graded = more("grade", "--run", "first", "--reward-model", "brief.py", "--json")
    assert graded.code == 0, graded.err
    found = json.loads(graded.out)
    assert found["next"] == "rft train runs/first/config.yaml --reward-model brief.py"
    trained = more(*shlex.split(found["next"])[1:], *model, "--name", f"brief{len(model)}", "--json")
    assert trained.code == 0, trained.err
    run = Run(folder / "runs" / f"brief{len(model)}")
    assert run.info["settings"]["grader.path"] == str(folder / "brief.py")
    assert json.loads(trained.out)["model"].endswith("runs/first" if model else "builtin/tiny")
    # The new baseline is what the old run's completions were graded to: the same base, rows and seeds.
    if not model:
        again = found["steps"][0]["new"]["mean"]
        assert json.loads(trained.out)["validation"]["before"]["mean"] == pytest.approx(again)
