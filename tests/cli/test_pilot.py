"""The pilot through the real command on builtin/tiny: limit, gate, resume, and what is kept."""

import json

import pytest

from rft_cli.runs import Run
from tests.cli.test_create_end_to_end import write_rows
from tests.faults.jobs import rft_here

BY_LENGTH = "def score(completion):\n    return min(1.0, len(completion) / 400)\n"
SMALL = [
    "rollout.group_size=2", "ppo.passes=1", "ppo.minibatches=1", "grader.workers=1", "grader.audit=none",
    "optim.n_epochs=1",
]  # fmt: skip


@pytest.fixture
def files(tmp_path):
    """Eight training rows, two validation rows, and a scorer that pays for length."""
    for name, start, count in (("train", 0, 8), ("val", 100, 2)):
        write_rows(tmp_path / f"{name}.jsonl", start, count)
    (tmp_path / "scorer.py").write_text(BY_LENGTH)
    return tmp_path


def create(folder, *settings, more=()):
    return rft_here(
        folder, "create", "-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py", "--name", "job",
        *more, *(part for item in [*SMALL, *settings] for part in ("--set", item)),
    )  # fmt: skip


def test_the_limit_comes_from_the_pilot_and_stays_when_the_run_goes_on(files):
    done = create(files)
    assert done.code == 0, done.err
    run = Run(files / "runs" / "job")
    pilot = run.read_pilot()
    assert (pilot["schema"], pilot["prompts"], pilot["completions"], pilot["group_size"]) == (
        "rft.pilot/1", 8, 16, 2,
    )  # fmt: skip
    assert pilot["prompt"].startswith("<|user|>Add.")
    assert pilot["prompt"].endswith("<|end|><|assistant|>")
    assert len(pilot["shown"]) == 3
    assert pilot["limit_tried"] > 300  # the context of 512, less the longest prompt
    limit = pilot["max_completion_tokens"]
    assert limit == max(64, 2 * pilot["lengths"]["p95"])
    assert "pilot: 16 completions of 8 prompts by the base model, sampled as in training\n" in done.err
    assert f"max completion {limit} tokens: " in done.err
    assert {"completion", "rollout", "step", "job", "pilot"} < pilot["seconds"].keys()

    run.write_pilot({**pilot, "max_completion_tokens": 5})
    longer = rft_here(files, "train", "--resume", "job", "--n-epochs", "2")
    assert longer.code == 0, longer.err
    assert "max completion 5 tokens, as when the run began\n" in longer.err
    assert "pilot:" not in longer.err
    last = max((run.path / "rollouts").glob("step-*.jsonl"))
    assert max(json.loads(line)["tokens"] for line in last.read_text().splitlines()) == 5

    measured = rft_here(files, "validate", "--run", "job", "--json")
    assert measured.code == 0, measured.err
    assert "pilot" not in json.loads(measured.out)


def test_a_pilot_in_which_nothing_can_be_learned_leaves_nothing_behind(files):
    (files / "scorer.py").write_text("def score(completion):\n    return 0\n")
    done = create(files, "pilot.prompts=2", more=("--json",))
    assert (done.code, list(json.loads(done.out))) == (1, ["error"])
    assert list((files / "runs").iterdir()) == []
    # Two prompts, and then up to three times as many more before the job is stopped.
    head = "error: nothing can be learned from these rows: none of 8 prompts has two completions with different rewards"
    assert f"{head}\n  every completion earns 0\n  reward 0, " in done.err
    assert "  nothing was trained, and no run is kept\n" in done.err
    fix = "  fix: likeliest first:\n    (1) teach it your references first: the same command with --algorithm sft "
    assert fix in " ".join(done.err.split("\n      "))
    assert done.err.endswith("\n    to train all the same: --set pilot.gate=warn\n")


def test_completions_that_are_all_cut_are_the_likeliest_cause(files):
    (files / "scorer.py").write_text("def score(completion):\n    return 0\n")
    done = create(files, "pilot.prompts=2", "rollout.max_completion_tokens=1")
    assert done.code == 1
    assert "none of 8 prompts has" in done.err
    assert (
        "every completion ran into the length limit and is graded unfinished; every completion earns 0"
        in done.err
    )
    assert "(1) raise rollout.max_completion_tokens if good completions need more" in done.err


def test_a_rare_reward_is_looked_for_before_a_job_is_stopped(files):
    (files / "scorer.py").write_text(
        'def score(completion, example):\n    return len(completion) / 400 if example["input"] == "5 + 1" else 0\n'
    )
    done = create(files, "pilot.prompts=2", "rollout.max_completion_tokens=12", "rollout.group_size=4")
    assert done.code == 0, done.err
    assert 2 < Run(files / "runs" / "job").read_pilot()["prompts"] <= 8


def test_the_gate_can_warn_and_the_pilot_can_be_left_out(files):
    (files / "scorer.py").write_text("def score(completion):\n    return 1\n")
    done = create(files, "pilot.gate=warn", "rollout.max_completion_tokens=8", more=("--quiet",))
    assert done.code == 0, done.err
    assert "warning: nothing can be learned from these rows: " in done.err
    assert "the task is solved already: take harder rows, or a stricter scorer" in done.err
    measured = rft_here(
        files, "validate", "-v", "val.jsonl", "--reward-model", "scorer.py", "--model", "builtin/tiny", "--json",
        "--set", "rollout.max_completion_tokens=8", "--set", "grader.audit=none",
    )  # fmt: skip
    assert measured.code == 0, measured.err  # a measurement is no job: nothing is stopped
    pilot = json.loads(measured.out)["pilot"]
    assert pilot["verdict"]["level"] == "nothing"
    assert "job" not in pilot["seconds"]  # there are no training rows
    assert "warning: nothing can be learned from these rows: none of 2 prompts has" in measured.err


def test_without_a_pilot(files):
    done = create(files, "pilot.prompts=0")
    assert done.code == 0, done.err
    assert "no pilot: pilot.prompts is 0\nmax completion " in done.err
    assert not (files / "runs" / "job" / "pilot.json").exists()


def test_a_scorer_that_fails_on_what_the_model_says_is_told_with_its_traceback(files):
    write_rows(files / "train.jsonl", 0, 16)
    (files / "scorer.py").write_text(
        "def score(completion, example, metadata):\n"
        "    if 'truncated' in metadata:\n        raise ValueError('out of order')\n    return 0.5\n"
    )
    done = create(files, "rollout.max_completion_tokens=4", "rollout.group_size=4")
    assert done.code == 3
    assert "100% of the last 64 grades failed" in done.err
    assert "ValueError: out of order" in done.err


@pytest.mark.slow
def test_two_processes_stop_at_the_gate_together(files):
    (files / "scorer.py").write_text("def score(completion):\n    return 0\n")
    done = create(files, "rollout.max_completion_tokens=4", more=("--num-processes", "2"))
    assert done.code == 1, done.err
    assert done.err.count("error: nothing can be learned") == 1
    assert list((files / "runs").iterdir()) == []


@pytest.mark.slow
def test_two_processes_sample_what_one_does(files):
    found = []
    for processes in ("1", "2"):
        done = create(
            files, "pilot.gate=none", more=("--num-processes", processes, "--output-dir", processes)
        )
        assert done.code == 0, done.err
        pilot = Run(files / processes / "job").read_pilot()
        found.append({key: value for key, value in pilot.items() if key not in ("seconds", "shown")})
    assert found[0] == found[1]
