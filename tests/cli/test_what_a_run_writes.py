"""Each key of metrics.jsonl and each file of a run is explained; trackers get the same figures."""

import dataclasses
import json
import os
import re
import sqlite3
from pathlib import Path

import pytest

from rft_cli.events import Event
from rft_cli.report.gaming.evidence import REFERENCES, SWAPPED, SWAPPED_BASE
from rft_cli.report.metrics_table import ALL, METRICS, unknown_keys, with_table
from rft_cli.runs import Run
from tests.command import ROOT, sets
from tests.faults.jobs import FILES, make_files, rft_here

SMALL = sets({
    "rollout.group_size": 2, "rollout.max_completion_tokens": 8, "ppo.minibatches": 1, "ppo.passes": 1,
    "grader.workers": 1, "grader.audit": "none", "pilot.gate": "none", "validation.every_epochs": 1,
    "checkpoint.every_steps": 1,
})  # fmt: skip
ONE = {"ppo": {"ppo.critic": "mlp"}, "grpo": {}, "rloo": {}, "sft": {"sft.batch_size": 4}}
"""Jobs of one step; all but the first without a pilot."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of each algorithm; that of ppo has test rows and reports to trackers."""
    folder = make_files(tmp_path_factory.mktemp("written"), rows=4)
    for algorithm, settings in ONE.items():
        more = ["--set", "pilot.prompts=0"]
        if algorithm == "ppo":
            more = ["--test", "val.jsonl", "--report-to", "tensorboard", "--report-to", "trackio"]
            more += ["--set", "pilot.prompts=2"]
        done = rft_here(
            folder, "create", *FILES, *SMALL, *sets(settings), "--algorithm", algorithm, "--n-epochs", "1",
            "--name", algorithm, *more,
        )  # fmt: skip
        assert done.code == 0, done.err
    return folder


def keys_of(folder: Path, algorithm: str) -> set[str]:
    return set(Run(folder / "runs" / algorithm).metrics()[0])


def test_every_key_is_explained(folder):
    for algorithm in ONE:
        assert unknown_keys([keys_of(folder, algorithm)]) == set(), algorithm
    assert unknown_keys([["reward", "judge_cost/NAME", "grader_failed/timeout", "nonsense"]]) == {"nonsense"}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.shown)
def test_the_algorithms_of_a_key_are_those_that_write_it(folder, metric):
    if metric.name.startswith(("judge_", "grader_failed/", "guard")):
        pytest.skip("needs judges, a guard, or grades that fail")
    if "rollout.engine: vllm" in metric.meaning:
        pytest.skip("needs an engine: tests/training/test_vllm_engine.py")
    wrote = {name for name in ONE if any(metric.covers(key) for key in keys_of(folder, name))}
    assert wrote == (set(ONE) if metric.of == ALL else set(metric.of.split(", ")))


def test_the_page_is_current():
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert with_table(page) == page, "python -m rft_cli.report.metrics_table docs/metrics.md"


def described(heading: str) -> dict[str, str]:
    """File of the table under this heading -> when it is there."""
    page = (ROOT / "docs" / "run-directory.md").read_text(encoding="utf-8")
    table = page[page.index(heading) :].split("\n\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", table, re.MULTILINE)
    return {name: when for names, when in rows for name in re.findall("`([^`]*)`", names)}


def matches(pattern: str, path: str) -> bool:
    regex = re.escape(pattern).replace("FILE", "[^/]+").replace(r"step\-N", "step-[0-9]+")
    return re.fullmatch(re.sub("-N", "-[0-9]+", regex).replace(r"\-N", "-[0-9]+"), path) is not None


def test_every_file_is_explained(folder):
    run, files = folder / "runs" / "ppo", described("# The run directory")
    there = [str(p.relative_to(run)) for p in run.rglob("*") if p.is_file() and "best" not in p.parts]
    there += ["best"] * (run / "best").is_symlink()
    assert [path for path in there if not any(matches(pattern, path) for pattern in files)] == []
    # what this run does not have: the base may be best, and it has one process
    absent = {pattern for pattern in files if not any(matches(pattern, path) for path in there)}
    probes = {
        f"validation/{name}-{split}.jsonl"
        for name in (REFERENCES, SWAPPED, SWAPPED_BASE)
        for split in ("validation", "test")
    }
    assert probes <= files.keys()
    engine = {"logs/engine.log", "engine/policy-vN-HASH/"}
    assert absent <= {"best", "validation/test-after.jsonl", "logs/launch.log", *engine, *probes}
    assert set(json.loads((run / "run.json").read_text())) <= described("## `run.json`").keys() | {"error"}


def test_every_file_of_a_checkpoint_is_explained(folder):
    files = described("## A checkpoint")
    for algorithm in ONE:
        there = [path.name for path in (folder / "runs" / algorithm / "checkpoints" / "step-1").iterdir()]
        assert [name for name in there if not any(matches(pattern, name) for pattern in files)] == []


# -- trackers --------------------------------------------------------------------------------------------------------


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard reads of the run's event files: tag -> (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_trackers_get_the_figures_and_go_on_after_a_resume(folder):
    run = Run(folder / "runs" / "ppo")
    done = rft_here(folder, "train", "--resume", "runs/ppo", "--n-epochs", "2")
    assert done.code == 0, done.err
    lines, found = run.metrics(), scalars(run.path)
    for key, value in lines[0].items():
        if key not in ("step",) and value is not None:
            assert [step for step, _ in found[f"train/{key}"]] == [1, 2], key
            assert found[f"train/{key}"][0][1] == pytest.approx(value, rel=1e-5), key
    result = run.info["result"]
    assert found["eval/reward"][0] == (0, pytest.approx(result["validation"]["before"]["mean"]))
    assert found["eval/reward_low"][0] == (0, pytest.approx(result["validation"]["before"]["ci95"][0]))
    assert {step for step, _ in found["eval/reward/letters"]} == {0, 1, 2}
    assert found["test/reward_after"][-1][1] == pytest.approx(result["test"]["after"]["mean"])

    name = re.search(r"trackio show --project rft, run (ppo-\w{4})", done.err)[1]
    database = sqlite3.connect(Path(os.environ["TRACKIO_DIR"]) / "rft.db")
    rows = database.execute(
        "select run_name, metrics from metrics where run_name = ? order by step", [name]
    ).fetchall()
    logged = [json.loads(text) for _, text in rows]
    trained = [row["train/reward"] for row in logged if "train/reward" in row]
    assert trained == pytest.approx([line["reward"] for line in lines])
    tables = [row["completions"]["_value"] for row in logged if "completions" in row]
    base = run.read_samples("step-000000")
    assert [row["completion"] for row in tables[0]] == [sample.completion for sample in base]


def test_a_tracker_that_fails_later_is_a_warning(folder, monkeypatch):
    from rft_cli.training.hooks import trackers

    def broken(name: str, *_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(trackers, "log_table", broken)
    arguments = ("train", "--resume", "runs/ppo", "--n-epochs", "3", "--report-to", "trackio")
    done = rft_here(folder, *arguments, "--json", "--progress", "json")
    assert done.code == 0, done.err
    told = [json.loads(line) for line in done.err.splitlines()]
    text = "trackio gets no more figures: no space left on device"
    warnings = [event for event in told if event["event"] == "Note" and event["level"] == "warning"]
    assert [event["step"] for event in warnings if event["text"] == text] == [2]
    assert text in [warning["text"] for warning in Run(folder / "runs" / "ppo").info["warnings"]]
    # machine-readable progress: what happened, in order
    names = [event["event"] for event in told if event["event"] not in ("Note", "Progress")]
    assert names == ["Started", "Validated", "Stepped", "Validated", "Finished"]
    step = next(event for event in told if event["event"] == "Stepped")
    assert (step["step"], step["total_steps"], step["metrics"]["reward"] > 0) == (3, 3, True)
    assert next(e for e in told if e["event"] == "Finished")["result"] == json.loads(done.out)


def test_an_error_is_an_event_too(folder):
    done = rft_here(folder, "train", "--resume", "runs/none", "--progress", "json")
    failed = json.loads(done.err)
    assert (done.code, failed["event"], failed["exit_code"]) == (2, "Failed", 2)
    both = rft_here(folder, "create", *FILES, "--progress", "json", "--quiet")
    assert (both.code, json.loads(both.err)["event"]) == (2, "Failed")


def test_every_event_is_documented():
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    table = page[page.index("## Progress as JSON lines") :].split("\n## ")[0]
    for event in Event.__subclasses__():
        line = next(line for line in table.splitlines() if line.startswith(f"| `{event.__name__}` |"))
        assert [f.name for f in dataclasses.fields(event) if f"`{f.name}`" not in line] == []


@pytest.mark.parametrize(
    ("name", "message", "fix"),
    [
        ("wandb", "wandb needs the package wandb, which is not installed", "pip install 'rft-cli[wandb]'"),
        ("tensorbord", "tensorbord is not a tracker", "did you mean 'tensorboard'?"),
    ],
)
def test_a_tracker_that_is_not_there(folder, monkeypatch, name, message, fix):
    monkeypatch.setattr("rft_cli.config.trackers.find_spec", {"tensorboard": True}.get)
    (folder / "job.yaml").write_text(f"report_to: [{name}]\n")
    done = rft_here(folder, "create", *FILES, "--config", "job.yaml", "--name", "none")
    assert (done.code, done.problems) == (2, [f"job.yaml:1:12: report_to: {message}"])
    assert f"  fix: {fix}" in done.err
    assert not (folder / "runs" / "none").exists()
