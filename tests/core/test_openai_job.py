"""A fine-tuning job of OpenAI's as settings: what is taken, what is said, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai.types.fine_tuning import FineTuningJob
from openai.types.fine_tuning.job_create_params import JobCreateParams
from pydantic import TypeAdapter

from rft_cli.config.load import LoadedConfig, load_config
from rft_cli.errors import UsageErrors

GRADER = {"type": "string_check", "name": "s", "operation": "eq", "input": "a", "reference": "b"}
HYPERPARAMETERS = {
    "n_epochs": 3,
    "batch_size": 4,
    "eval_samples": 2,
    "eval_interval": 5,
    "learning_rate_multiplier": 0.5,
    "compute_multiplier": 1.5,
    "reasoning_effort": "medium",
}
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
}
REQUEST: dict[str, Any] = {
    "model": "o4-mini-2025-04-16",
    "training_file": "file-train",
    "validation_file": "val.jsonl",
    "suffix": "triage",
    "seed": 7,
    "metadata": {"team": "support"},
    "integrations": [{"type": "wandb", "wandb": {"project": "p"}}],
    "method": {
        "type": "reinforcement",
        "reinforcement": {"grader": GRADER, "response_format": FORMAT, "hyperparameters": HYPERPARAMETERS},
    },
}
GIVEN_BACK: dict[str, Any] = {
    "object": "fine_tuning.job",
    "id": "ftjob-1",
    "created_at": 1,
    "error": None,
    "fine_tuned_model": None,
    "finished_at": None,
    "hyperparameters": {"n_epochs": None},
    "model": "o4-mini-2025-04-16",
    "organization_id": "org",
    "result_files": [],
    "seed": 7,
    "status": "queued",
    "trained_tokens": None,
    "training_file": "file-train",
    "validation_file": None,
    "user_provided_suffix": None,
    "integrations": [],
    "metadata": {},
    "method": {
        "type": "reinforcement",
        "supervised": None,
        "reinforcement": {
            "grader": GRADER,
            "hyperparameters": {"n_epochs": "auto", "reasoning_effort": "default"},
        },
    },
}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load a job that lies in the folder `jobs` beside two data files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    for name in ("file-train.jsonl", "val.jsonl"):
        (tmp_path / "jobs" / name).write_text("{}\n")

    def load(job: Any, path: str | None = None, name: str = "jobs/job.json", **more: Any) -> LoadedConfig:
        (tmp_path / name).write_text(job if isinstance(job, str) else json.dumps(job, indent=1))
        return load_config(path, env={}, openai_job=name, **more)

    return load


def problems(load: Any, job: Any, **more: Any) -> list[tuple[str, str | None]]:
    with pytest.raises(UsageErrors) as caught:
        load(job, **more)
    return [(problem.message, problem.fix) for problem in caught.value.problems]


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in REQUEST.items() if name != key}


def test_the_jobs_here_are_what_openai_takes_and_gives() -> None:
    TypeAdapter(JobCreateParams).validate_python(REQUEST)
    FineTuningJob.model_validate(GIVEN_BACK)


def test_what_is_taken_and_what_is_said(load: Any) -> None:
    loaded = load(REQUEST)
    config = loaded.config
    assert (config.data.train, config.data.validation) == ("jobs/file-train.jsonl", "jobs/val.jsonl")
    assert config.grader.path == "jobs/job.json"
    assert (config.seed, config.optim.n_epochs) == (7, 3)
    assert (config.rollout.prompts_per_batch, config.validation.samples_per_prompt) == (4, 2)
    line, column = map(int, loaded.origins["optim.n_epochs"].split(":")[1:])
    assert Path("jobs/job.json").read_text().splitlines()[line - 1][column - 1 :] == "3,"
    assert loaded.notes == [
        "jobs/job.json sets data.train = jobs/file-train.jsonl, data.validation = jobs/val.jsonl, seed = 7, "
        "the grader, optim.n_epochs = 3, rollout.prompts_per_batch = 4, validation.samples_per_prompt = 2",
        *(
            f"jobs/job.json: {line}"
            for line in (
                'model "o4-mini-2025-04-16" is not supported: its weights are OpenAI\'s: --model chooses what is '
                "trained",
                'suffix "triage" is not supported: part of a hosted model\'s name; --name names the run',
                'metadata {"team": "support"} is not supported: kept by OpenAI only',
                'integrations [{"type": "wandb", "wandb": {"project... is not supported: rft writes metrics.jsonl '
                "in the run",
                'response_format {"type": "json_schema", "json_schema"... is not supported: completions are not '
                "forced into the schema; sample.output_json is there where they are JSON",
                "hyperparameters.eval_interval 5 is not supported: counts steps; validation.every_completions "
                "counts completions",
                "hyperparameters.learning_rate_multiplier 0.5 is not supported: scales a rate that OpenAI does not "
                "publish; --learning-rate sets it",
                "hyperparameters.compute_multiplier 1.5 is not supported: rollout.group_size sets how many "
                "completions a prompt gets",
                'hyperparameters.reasoning_effort "medium" is not supported: open models have no such switch',
            )
        ),
    ]


def test_what_openai_takes_of_late(load: Any) -> None:
    notes = load({**REQUEST, "safety_identifier": "user-1"}).notes
    (note,) = [line for line in notes if "safety_identifier" in line]
    assert note == (
        'jobs/job.json: safety_identifier "user-1" is not supported: '
        "identifies users to OpenAI; nothing is sent to OpenAI"
    )


def test_a_job_that_the_api_gave_back(load: Any) -> None:
    loaded = load(GIVEN_BACK)
    assert loaded.config.data.train == "jobs/file-train.jsonl"
    assert loaded.config.data.validation is None
    assert loaded.config.optim.n_epochs == "auto"
    assert [note.partition(" is not")[0] for note in loaded.notes] == [
        "jobs/job.json sets seed = 7, data.train = jobs/file-train.jsonl, the grader",
        'jobs/job.json: model "o4-mini-2025-04-16"',
    ]


def test_every_other_layer_wins(load: Any, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("optim: {n_epochs: 9}\ngrader: {type: python, source: x, name: p}\n")
    job = {**REQUEST, "training_file": "elsewhere"}
    overrides = {"data.train": "mine.jsonl", "seed": None}
    config = load(job, "own.yaml", overrides=overrides, sets=["validation.samples_per_prompt=5"]).config
    assert config.optim.n_epochs == 9
    assert config.data.train == "mine.jsonl"
    assert config.validation.samples_per_prompt == 5
    assert config.seed == 7
    assert config.grader.path is None
    assert config.grader.spec == {"type": "python", "source": "x", "name": "p"}
    assert load(job, overrides={**overrides, "grader.path": "scorer.py"}).config.grader.path == "scorer.py"


def test_yaml_jobs(load: Any) -> None:
    text = (
        "training_file: file-train\nmethod: {type: reinforcement, reinforcement: {grader: {type: python}}}\n"
    )
    assert load(text, name="jobs/job.yaml").config.data.train == "jobs/file-train.jsonl"


def test_all_problems_at_once_with_their_places(load: Any) -> None:
    job = """{
  "model": "o4-mini",
  "trainingfile": "a",
  "training_file": "file-gone",
  "validation_file": 7,
  "seed": "x",
  "method": {"type": "reinforcement", "reinforcement": {
    "grader": {},
    "hyperparameters": {"n_epoch": 1, "n_epochs": 0, "batch_size": "big"},
    "graders": 1
  }}
}"""
    assert problems(load, job) == [
        ("jobs/job.json:3:3: trainingfile: unknown in a fine-tuning job", "did you mean 'training_file'?"),
        (
            "jobs/job.json:4:20: training_file: no file 'file-gone' beside the job",
            "give it with -t FILE, or save it as jobs/file-gone.jsonl",
        ),
        ("jobs/job.json:5:22: validation_file: must be a file's id or name", None),
        ("jobs/job.json:6:11: seed: must be a whole number (got 'x')", None),
        (
            "jobs/job.json:9:25: method.reinforcement.hyperparameters.n_epoch: unknown in a fine-tuning job",
            "did you mean 'n_epochs'?",
        ),
        ("jobs/job.json:9:51: optim.n_epochs: must be a whole number >= 1 or 'auto' (got 0)", None),
        ("jobs/job.json:9:68: rollout.prompts_per_batch: must be a whole number >= 1 (got 'big')", None),
        (
            "jobs/job.json:10:5: method.reinforcement.graders: unknown in a fine-tuning job",
            "did you mean 'grader'?",
        ),
    ]


LIKE = "a job is what POST /v1/fine_tuning/jobs takes: model, training_file, method {type, reinforcement}"


@pytest.mark.parametrize(
    ("job", "message", "fix"),
    [
        ("[]", "jobs/job.json:1:1: a job is an object", LIKE),
        ("{}", "jobs/job.json:1:1: has no 'method'", LIKE),
        (GRADER, "jobs/job.json:1:1: has no 'method'", "it is a grader: give it with --reward-model"),
        (
            {"method": {"type": "dpo", "dpo": {}}},
            "jobs/job.json:2:12: method.type: must be 'reinforcement' (got \"dpo\")",
            "rft does reinforcement fine-tuning",
        ),
        (
            {"method": 1},
            "jobs/job.json:2:12: method.type: must be 'reinforcement' (got null)",
            "rft does reinforcement fine-tuning",
        ),
        (
            {"method": {"type": "reinforcement"}},
            "jobs/job.json:2:12: method.reinforcement has no grader",
            "a reinforcement job needs one",
        ),
        (
            {"method": {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": 1}}},
            "jobs/job.json:12:23: method.reinforcement.hyperparameters is an object",
            None,
        ),
        (
            "{",
            "jobs/job.json:1:2: not valid JSON: Expecting property name enclosed in double quotes",
            "correct the JSON syntax",
        ),
    ],
)
def test_files_that_are_no_such_job(load: Any, job: Any, message: str, fix: str | None) -> None:
    assert problems(load, job) == [(message, fix)]


def test_files_that_can_not_be_read(load: Any, tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    load(REQUEST)
    for name, message, fix in (
        ("jobs/jab.json", "jobs/jab.json: no such file", "did you mean 'jobs/job.json'?"),
        ("jobs/job.jsn", "jobs/job.jsn: no such file", "did you mean 'jobs/job.json'?"),
        ("folder.json", "folder.json: can't be read: Is a directory", None),
        (
            "jobs/val.jsonl",
            "jobs/val.jsonl: is not a job: a job is JSON or YAML",
            "name a file that ends in .json",
        ),
    ):
        with pytest.raises(UsageErrors) as caught:
            load_config(None, env={}, openai_job=name)
        assert [(problem.message, problem.fix) for problem in caught.value.problems] == [(message, fix)]
