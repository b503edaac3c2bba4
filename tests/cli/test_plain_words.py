"""One small job of own rows with a slow scorer: what it says while it runs, at its end, and when it is used again."""

from __future__ import annotations

import json
import os
import pty
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Ended
from tests.faults.jobs import WarmJobs

SETTINGS = {
    "rollout.prompts_per_batch": 4, "rollout.group_size": 2, "rollout.max_completion_tokens": 4, "grader.workers": 1,
    "pilot.prompts": 0, "ppo.passes": 1, "ppo.minibatches": 1, "grader.audit": "none", "ppo.value_clip": 0.25,
}  # fmt: skip
SCORER = """
import os, time
def score(completion, example):
    if not os.path.exists("runs/job/report.html"):
        time.sleep(0.25)
    return sum(map(ord, completion)) % 7 / 7
"""


Rft = Callable[..., Ended]


@pytest.fixture(scope="module")
def rft(warm) -> Rft:
    """The command line in a child that has its imports done."""
    return lambda folder, *args: warm.start(folder, args).wait(500)


def on_a_terminal(warm: WarmJobs, folder: Path, *args: str) -> str:
    """Everything that the command draws on a terminal of 80 columns."""
    reads, writes = pty.openpty()
    process = warm.start(folder, args, terminal=Path(os.ttyname(writes)), TERM="xterm", COLUMNS="80")
    drawn = bytearray()

    def read() -> None:
        while True:
            try:
                drawn.extend(os.read(reads, 4096))
            except OSError:
                return

    reader = threading.Thread(target=read)
    reader.start()
    ended = process.wait(500)
    os.close(writes)
    reader.join()
    assert ended.code == 0, drawn.decode(errors="replace")
    return drawn.decode()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, rft: Rft) -> tuple[Path, Ended]:
    """The folder, and the job `job` in it that has ended; its scorer is slow until then."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "scorer.py").write_text(SCORER)
    rows = [{"prompt": f"Say {n}.", "output": str(n)} for n in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "val.jsonl").write_text(json.dumps({"prompt": "Say 9.", "output": "9", "level": 3}) + "\n")
    sets = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    files = ["-t", "rows.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py", "--name", "job"]
    done = rft(folder, "create", *files, *sets, "--n-epochs", "2")
    assert done.code == 0, done.err
    return folder, done


def test_the_demonstration_model_is_told_before_and_after(job) -> None:
    _, done = job
    said = "builtin/tiny is a demonstration model"
    assert f"warning: {said}" in done.err
    assert said in done.out[done.out.index("Warnings") :]


def test_a_slow_scorer_is_named_as_the_cost(job) -> None:
    folder, done = job
    (line,) = [line for line in done.err.splitlines() if "of a step: " in line]
    assert line.startswith("warning: step 1: grading is ")
    assert "% of a step: 25" in line
    assert "ms a grade with 1 worker: make the scorer faster, or raise grader.workers" in line
    assert "(grading 2." in done.err  # of the rollout's seconds
    warnings = json.loads((folder / "runs/job/run.json").read_text())["result"]["warnings"]
    assert [text for text in warnings if "of a step: " in text] == [line.removeprefix("warning: step 1: ")]


def test_the_kl_is_a_tokens(job) -> None:
    folder, done = job
    assert "KL k1/token " in done.err
    lines = [json.loads(line) for line in (folder / "runs/job/metrics.jsonl").read_text().splitlines()]
    assert all("kl_per_token" in line for line in lines)


def test_a_runs_own_settings_are_no_news(job, rft) -> None:
    folder, done = job
    assert "ppo.value_clip: no effect without a critic (ppo.critic)" in done.err  # it was asked for
    again = rft(folder, "validate", "runs/job/config.yaml")
    assert again.code == 0, again.err
    assert "no effect" not in again.err
    assert "no effect" in rft(folder, "validate", "runs/job/config.yaml", "--set", "ppo.value_clip=2").err
    assert "no effect" not in rft(folder, "validate", "-t", "rows.jsonl", "--set", "ppo.value_clip=0.2").err


def test_validate_keeps_what_it_sampled_for_rft_grade(job, rft) -> None:
    folder, _ = job
    done = rft(folder, "validate", "--run", "job", "--json")
    assert done.code == 0, done.err
    files = json.loads(done.out)["completions"]
    tuned = json.loads((folder / "runs/job/run.json").read_text())["best_step"] > 0
    assert [Path(file).name for file in files] == (
        ["base.jsonl", "tuned.jsonl"] if tuned else ["completions.jsonl"]
    )
    assert all(
        Path(file).parent.parent == folder / "runs" / "validations" for file in map(folder.joinpath, files)
    )
    (row,) = map(json.loads, (folder / files[-1]).read_text().splitlines())
    assert (row["output"], row["level"], row["grade"]["status"]) == ("9", 3, "graded")
    graded = rft(folder, "grade", "--reward-model", "scorer.py", files[-1])
    assert json.loads(graded.out)["grade"]["reward"] == row["grade"]["reward"]
    assert rft(folder, "train", "--resume", "latest").err.startswith("error: runs/job is finished")


def test_a_folder_that_can_not_be_written_costs_a_warning(job, rft) -> None:
    folder, _ = job
    (folder / "shut").mkdir()
    (folder / "shut" / "validations").write_text("a file")
    args = (
        "-v",
        "val.jsonl",
        "--reward-model",
        "scorer.py",
        "--model",
        "builtin/tiny",
        "--output-dir",
        "shut",
    )
    done = rft(
        folder, "validate", *args, "--set", "pilot.prompts=0", "--set", "rollout.max_completion_tokens=4"
    )
    assert done.code == 0, done.err
    assert "warning: the completions could not be kept in shut/validations: " in done.err


def test_a_job_of_openais_is_measured_without_its_training_rows(job, rft) -> None:
    folder, _ = job
    check = {
        "type": "string_check",
        "name": "c",
        "input": "{{sample.output_text}}",
        "reference": "9",
        "operation": "eq",
    }
    method = {"type": "reinforcement", "reinforcement": {"grader": check}}
    (folder / "job.json").write_text(json.dumps({"training_file": "file-abc", "method": method}))
    args = ("validate", "--from-openai", "job.json", "-v", "val.jsonl")
    done = rft(
        folder, *args, "--model", "builtin/tiny", "--set", "rollout.max_completion_tokens=4", "--quiet"
    )
    assert done.code == 0, done.err
    assert done.out.startswith("validation rows, builtin/tiny")
    assert (
        "training_file: no file 'file-abc' beside the job" in rft(folder, *args).err
    )  # a check of a whole job


def test_a_terminal_shows_the_whole_course_after_a_resume(job, warm) -> None:
    folder, _ = job
    drawn = on_a_terminal(warm, folder, "train", "--resume", "job", "--n-epochs", "3")
    before = [
        json.loads(line)["reward"] for line in (folder / "runs/job/metrics.jsonl").read_text().splitlines()
    ]
    assert len(before) == 3
    course = drawn[drawn.rindex("training reward  ") :].splitlines()[0].split("  ")
    assert len(course[1].strip()) == 3
    if len(set(before)) > 1:
        assert course[2].strip() == f"{min(before):.3f} … {max(before):.3f}"
    for line in drawn.replace("\r", "").split("\n"):
        shown = line.split("\x1b[2K")[-1]
        assert len(shown) <= 80 or "\x1b" in shown or "rft " in shown or "/" in shown, shown
