"""`rft create --from-openai`: a job of OpenAI's becomes a normal run, on builtin/tiny with few short completions."""

import json
from pathlib import Path

import pytest

from tests.faults.jobs import rft_here

SOURCE = """
def grade(sample, item):
    print("graders print too")
    return min(1.0, len(sample["output_text"]) / 40)
"""
GRADER = {
    "type": "multi",
    "name": "both",
    "graders": {
        "right": {
            "type": "string_check",
            "name": "right",
            "operation": "like",
            "input": "{{ sample.output_text }}",
            "reference": "{{ item.answer }}",
        },
        "length": {"type": "python", "name": "length", "source": SOURCE},
    },
    "calculate_output": "0.5 * right + 0.5 * length",
}
JOB = {
    "model": "o4-mini-2025-04-16",
    "training_file": "file-train",
    "validation_file": "file-val",
    "seed": 3,
    "method": {
        "type": "reinforcement",
        "reinforcement": {"grader": GRADER, "hyperparameters": {"n_epochs": 1, "reasoning_effort": "low"}},
    },
}
SMALL = [
    "rollout.group_size=2", "rollout.max_completion_tokens=8", "ppo.passes=1", "ppo.minibatches=1",
    "ppo.critic_warmup=0", "grader.workers=1", "pilot.prompts=0",
]  # fmt: skip


def write_rows(path: Path, start: int) -> None:
    rows = (
        {"messages": [{"role": "user", "content": f"Add {n} + 1."}], "answer": str(n + 1)}
        for n in range(start, start + 4)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path):
    """Run `rft` in a folder with job.json and its data files."""
    (tmp_path / "job.json").write_text(json.dumps(JOB))
    for name, start in (("file-train.jsonl", 0), ("file-val.jsonl", 100), ("other.jsonl", 50)):
        write_rows(tmp_path / name, start)

    def run(*args):
        return rft_here(tmp_path, *args)

    return run


def test_the_job_becomes_a_run(run, tmp_path):
    sets = [part for item in SMALL for part in ("--set", item)]
    made = run("create", "--from-openai", "job.json", "-v", "other.jsonl", "--name", "first", "--json", *sets)
    assert made.code == 0, made.err
    assert json.loads(made.out)["status"] == "finished"
    said = [line for line in made.err.splitlines() if line.startswith("job.json")]
    assert said == [
        "job.json sets data.train = file-train.jsonl, seed = 3, the grader, optim.n_epochs = 1",
        'job.json: model "o4-mini-2025-04-16" is not supported: its weights are OpenAI\'s: --model chooses what is '
        "trained",
        'job.json: hyperparameters.reasoning_effort "low" is not supported: open models have no such switch',
    ]
    folder = tmp_path / "runs" / "first"
    assert (folder / "scorer" / "job.json").read_text() == (tmp_path / "job.json").read_text()
    samples = [
        json.loads(line)
        for file in (folder / "validation").glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert {tuple(sample["grade"]["components"]) for sample in samples if "grade" in sample} == {
        ("right", "length")
    }
    # The run's own copy of the job grades alone.
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"completion": "It is 7, I am sure.", "answer": "7"}) + "\n")
    again = run("grade", "--reward-model", "runs/first/scorer/job.json", "rows.jsonl")
    assert json.loads(again.out)["grade"]["reward"] == 0.5 + 0.5 * 19 / 40
    resumed = run("create", "--from-openai", "job.json", "-v", "other.jsonl", "--resume", "first")
    assert resumed.code == 2, resumed.err
    assert "error: runs/first is finished" in resumed.err


def test_a_job_is_refused_before_anything_starts(run, tmp_path):
    (tmp_path / "file-val.jsonl").unlink()
    refused = run("create", "--from-openai", "job.json")
    assert refused.code == 2
    column = json.dumps(JOB).index('"file-val"') + 1
    assert f"job.json:1:{column}: validation_file: no file 'file-val' beside the job" in refused.err
    assert "give it with -v FILE, or save it as file-val.jsonl" in refused.err
    broken = json.dumps(JOB).replace('"like"', '"lik"').replace("item.answer", "item.anwser")
    (tmp_path / "job.json").write_text(broken)
    refused = run("create", "--from-openai", "job.json", "-v", "other.jsonl")
    assert refused.code == 2
    assert "method.reinforcement.grader.graders.right.operation: must be 'eq'" in refused.err
    assert not (tmp_path / "runs").exists()
