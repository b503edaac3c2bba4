"""What the commands do around training: run directory, status, gates, resume, signals, standard output.

Training itself is replaced here by a stand-in that writes what training writes; the real one is run from end to end in
test_create_end_to_end.py.
"""

import json
import os
import re
import signal
import sys
import types
from dataclasses import dataclass, field

import pytest

from rft_cli.errors import RunFailed, UsageError
from rft_cli.events import Finished, Stepped
from rft_cli.report.result import build_result
from rft_cli.runs import Run
from rft_cli.types import Grade, Sample
from tests.cli.conftest import GOOD


def samples(job, reward):
    return [
        Sample(row, e.id, e.prompt_text(), "c", 1, False, Grade("graded", reward + row / 100, {"json": 1.0}))
        for row, e in enumerate(job.validation.examples)
    ]


class StandIn:
    """Trains nothing: baseline, one step, one checkpoint that is better by `gain`. `before_end` runs before its end."""

    gain = 0.5
    calls: list

    def __init__(self):
        self.calls = []
        self.before_start = self.before_end = lambda: None

    def check(self, job):
        self.calls.append("check")

    def train(self, job, run, on_event, resume=False, stop=None, lengths=None):
        self.calls.append("resume" if resume else "train")
        self.job = job
        self.status = run.info["status"]
        self.before_start()
        print("a library prints")
        os.write(1, b"C code prints\n")
        run.write_samples("step-000000", samples(job, 0.25))
        run.append_metrics({"step": 1, "epoch": 1.0, "reward": 0.3, "completions": 8})
        on_event(Stepped(1, 1, 1.0, {"reward": 0.3}))
        partial = run.begin_checkpoint(1)
        (partial / "w").write_bytes(b"w")
        run.commit_checkpoint(1, partial)
        self.before_end()
        run.write_samples("step-000001", samples(job, 0.25 + self.gain))
        if self.gain > 0:
            run.set_best(1)
        result = build_result(run)
        on_event(Finished(result))
        return result


@pytest.fixture
def training(monkeypatch):
    stand_in = StandIn()
    module = types.ModuleType("rft_cli.training.main")
    module.check, module.train = stand_in.check, stand_in.train
    monkeypatch.setitem(sys.modules, "rft_cli.training.main", module)
    return stand_in


def test_create_makes_a_run_trains_and_shows_the_table(rft, files, training):
    found = rft("create", *GOOD, "--name", "a", "--n-epochs", "2", "--seed", "7")
    assert found.code == 0, found.err
    assert training.calls == ["check", "train"]
    assert training.status == "running"
    run = Run.open("a")
    info = run.info
    assert (info["status"], info["seed"], info["model"], info["algorithm"]) == (
        "finished",
        7,
        "builtin/tiny",
        "ppo",
    )
    assert info["result"]["best_step"] == 1
    assert info["finished"] is not None
    assert info["seconds"] > 0
    assert set(info["hashes"]) == {"train", "validation", "grader"}
    assert info["versions"]["trl"].startswith("1.")
    assert (run.path / "scorer" / "scorer.py").read_text() == (files / "scorer.py").read_text()
    config = (run.path / "config.yaml").read_text()
    assert f"train: {files}/train.jsonl" in config
    assert "n_epochs: 2" in config
    assert rft("train", "runs/a/config.yaml").code == 0  # the file starts another run

    assert "Mean reward on the validation rows went from 0.265 to 0.765." in found.out
    assert "next  rft export runs/a" in found.out
    assert "prints" not in found.out
    assert "train.jsonl: detected: rft" in found.err
    assert "grader: score(completion, example) of scorer.py" in found.err
    assert "epoch 1.0  step 1/1  reward 0.300" in found.err
    assert "run: runs/a" in found.err


def test_json_is_one_document_and_the_same_as_in_run_json(rft, files, training):
    found = rft("create", *GOOD, "--model", "builtin/tiny", "--name", "a", "--json", "--quiet")
    assert found.code == 0, found.err
    document = json.loads(found.out)
    assert document == Run.open("a").info["result"]
    assert document["validation"]["difference"]["mean"] == pytest.approx(0.5)
    assert found.err.replace("a library prints\n", "") == ""


def test_nothing_beat_the_base_is_a_success_unless_a_gain_is_asked_for(rft, files, training):
    training.gain = 0.0
    found = rft("create", *GOOD, "--name", "a")
    assert found.code == 0
    assert "Nothing beat the base model" in found.out
    gate = rft("create", *GOOD, "--name", "b", "--min-gain", "0")
    assert gate.code == 1
    assert "Nothing beat the base model" in gate.out
    assert gate.err.splitlines()[-1] == "error: --min-gain 0 is not met: nothing beat the base model"
    assert Run.open("b").info["status"] == "finished"


@pytest.mark.parametrize(("asked", "code"), [("0.4", 0), ("0.6", 1)])
def test_min_gain_is_the_paired_difference(rft, files, training, asked, code):
    found = rft("create", *GOOD, "--min-gain", asked)
    assert found.code == code
    assert ("--min-gain 0.6 is not met: the validation rows gained 0.5000" in found.err) == (code == 1)


def test_train_takes_a_yaml_file_and_flags_win(rft, files, training):
    (files / "job.yaml").write_text(
        "data: {train: train.jsonl, validation: val.jsonl}\ngrader: {path: scorer.py}\nseed: 1\noptim: {n_epochs: 3}\n"
    )
    found = rft("train", "job.yaml", "--seed", "2", "--set", "optim.n_epochs=4", "--name", "y")
    assert found.code == 0, found.err
    assert (training.job.config.seed, training.job.config.optim.n_epochs) == (2, 4)


def test_test_rows_reach_the_job_and_overlap_is_a_warning(rft, files, training):
    (files / "test.jsonl").write_text((files / "train.jsonl").read_text())
    found = rft("create", *GOOD, "--test", "test.jsonl", "--quiet")
    assert found.code == 0
    assert training.job.test is not None
    assert "warning: train.jsonl: 6 of 6 training rows" in found.err


def test_what_the_preflight_warned_of_stands_in_the_run_and_beside_the_result(rft, files, training):
    (files / "lax.py").write_text(
        "def score(completion, example):\n    return float(example['output'] in completion)\n"
    )
    (files / "test.jsonl").write_text((files / "train.jsonl").read_text())
    args = ("-t", "train.jsonl", "-v", "val.jsonl", "--test", "test.jsonl", "--reward-model", "lax.py")
    found = rft("create", *args, "--model", "builtin/tiny", "--name", "a")
    assert found.code == 0, found.err
    info = Run.open("a").info
    overlap, holes = (warning["text"] for warning in info["warnings"])
    assert overlap.startswith("train.jsonl: 6 of 6 training rows")
    assert holes.startswith("scorer: some texts that are not answers earn as much as right ones: ")
    assert [warning["step"] for warning in info["warnings"]] == [0, 0]
    assert info["result"]["warnings"] == [overlap, holes]
    shown = found.out.partition("\nWarnings\n")[2].partition("\n\n")[0]
    assert " ".join(shown.split()) == f"- {overlap} - {holes}"
    # Told again when the run goes on, and kept once.
    training.before_end = lambda: os.kill(os.getpid(), signal.SIGTERM)
    assert rft("create", "--resume", "a", "--n-epochs", "50").code == 143
    training.before_end = lambda: None
    again = rft("create", "--resume", "a")
    assert again.code == 0, again.err
    assert "warning: scorer: some texts" in again.err
    assert Run.open("a").info["result"]["warnings"] == [overlap, holes]


def test_own_rows_and_no_model_are_told_before_and_after(rft, files, training):
    found = rft("create", *GOOD, "--name", "a")
    (said,) = Run.open("a").info["result"]["warnings"]
    assert said.startswith("builtin/tiny is a demonstration model: ")
    assert "--model Qwen/Qwen2.5-0.5B-Instruct or --model DIRECTORY" in said
    assert f"warning: {said}\n" in found.err
    assert f"Warnings - {said} " in " ".join(found.out.split())


def test_who_names_the_demonstration_model_or_has_its_rows_is_not_told(rft, files, training):
    (files / "job.yaml").write_text("model: {path: builtin/tiny}\n")
    for more in (("--model", "builtin/tiny"), ("--config", "job.yaml")):
        assert "demonstration" not in rft("create", *GOOD, *more).err
    row = {"task": "Triage this support message. Reply with JSON.", "input": "Hello", "output": "{}"}
    (files / "train.jsonl").write_text(json.dumps(row) + "\n")
    assert "demonstration" not in rft("create", *GOOD).err


def test_a_run_or_its_name_serves_as_the_model(rft, files, training):
    assert rft("create", *GOOD, "--name", "first").code == 0
    for number, model in enumerate(("first", "latest", "runs/first")):
        found = rft("create", *GOOD, "--name", f"next{number}", "--model", model)
        assert found.code == 0, found.err
        assert training.job.config.model.path.startswith("runs/")
        assert Run.open(f"next{number}").info["model"].startswith(str(files / "runs"))


def test_what_only_the_model_can_tell_leaves_no_run(rft, files, training):
    def fail():
        raise UsageError("train.jsonl:1: the prompt has 9 tokens", "shorten it")

    training.before_start = fail
    found = rft("create", *GOOD)
    assert found.code == 2
    assert "error: train.jsonl:1: the prompt has 9 tokens\n  fix: shorten it" in found.err
    assert list((files / "runs").iterdir()) == []


def test_a_failing_job_ends_with_3_and_its_status_says_so(rft, files, training):
    def fail():
        raise RunFailed("12 of 100 grades failed", "mend the scorer")

    training.before_end = fail
    found = rft("create", *GOOD, "--name", "a")
    assert found.code == 3
    assert "error: 12 of 100 grades failed\n  fix: mend the scorer" in found.err
    info = Run.open("a").info
    assert (info["status"], info["error"]) == ("failed", "12 of 100 grades failed")
    assert info["finished"] is not None


def test_an_unforeseen_error_is_one_line(rft, files, training):
    def fail():
        raise ZeroDivisionError("division by zero\nmore")

    training.before_end = fail
    found = rft("create", *GOOD, "--name", "a")
    assert found.code == 3
    assert found.err.splitlines()[-1] == (
        "internal error: ZeroDivisionError: division by zero (run with --debug for the traceback)"
    )
    assert "Traceback" in rft("create", *GOOD, "--debug").err


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138), (signal.SIGINT, 130)],
)
def test_a_signal_ends_with_its_number_and_says_how_to_go_on(rft, files, training, number, code):
    training.before_end = lambda: os.kill(os.getpid(), number)
    handler = signal.getsignal(number)
    found = rft("create", *GOOD, "--name", "a")
    assert found.code == code
    said = (
        f"error: interrupted by {number.name}: step 1 is saved\n  fix: resume with: rft train --resume runs/a"
    )
    assert said in found.err
    assert Run.open("a").info["status"] == "interrupted"
    assert signal.getsignal(number) is handler


def test_an_early_signal_says_that_a_resumed_run_starts_over(rft, files, training):
    training.before_start = lambda: os.kill(os.getpid(), signal.SIGTERM)
    found = rft("create", *GOOD, "--name", "a")
    assert found.code == 143
    assert "no step is saved yet, a resumed run starts over" in found.err


def test_a_second_signal_does_not_break_off_what_the_first_one_cleans_up(rft, files, training, monkeypatch):
    """Terminals and service managers send several."""

    def remove_torn(_: object) -> None:
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
            os.kill(os.getpid(), signal.SIGHUP)

    training.before_start = lambda: os.kill(os.getpid(), signal.SIGTERM)
    monkeypatch.setattr("rft_cli.runs.checkpoints.CheckpointStore.remove_torn", remove_torn)
    found = rft("create", *GOOD, "--name", "a")
    assert found.code == 143
    assert "error: interrupted by SIGTERM" in found.err
    assert Run.open("a").info["status"] == "interrupted"


def test_resume_goes_on_with_the_runs_own_settings(rft, files, training, monkeypatch):
    training.before_end = lambda: os.kill(os.getpid(), signal.SIGTERM)
    assert rft("create", *GOOD, "--name", "a", "--seed", "5").code == 143
    training.before_end = lambda: None
    monkeypatch.setenv("RFT_SEED", "99")
    before = Run.open("a").info["seconds"]
    found = rft("train", "--resume", "latest", "--n_epochs", "50")
    assert found.code == 0, found.err
    assert training.calls == ["check", "train", "resume"]
    assert (training.job.config.seed, training.job.config.optim.n_epochs) == (5, 50)
    run = Run.open("a")
    assert run.info["status"] == "finished"
    assert run.info["seconds"] > before
    assert "n_epochs: 50" in (run.path / "config.yaml").read_text()


def test_a_signal_before_the_run_exists_and_after_it_ended_is_one_line(rft, files, training, monkeypatch):
    def stopped(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sys.modules["rft_cli.training.main"], "check", stopped)
    found = rft("create", *GOOD, "--name", "a")
    assert (found.code, found.err.splitlines()[-1]) == (143, "error: interrupted by SIGTERM")
    assert not (files / "runs").exists()
    monkeypatch.setattr(sys.modules["rft_cli.training.main"], "check", training.check)
    monkeypatch.setattr("rft_cli.commands.job.start.print_summary", stopped)
    found = rft("create", *GOOD, "--name", "a")
    assert (found.code, found.err.splitlines()[-1]) == (143, "error: interrupted by SIGTERM")
    assert Run.open("a").info["status"] == "finished"


def test_a_finished_run_is_told_with_how_to_train_it_longer(rft, files, training):
    assert rft("create", *GOOD, "--name", "a").code == 0
    found = rft("create", "--resume", "a", "--json")
    assert (found.code, list(json.loads(found.out))) == (2, ["error"])
    assert "error: runs/a is finished: mean reward " in found.err
    assert "fix: train it longer: rft train --resume runs/a --set optim.max_steps=" in found.err
    assert training.calls == ["check", "train"]


def test_resume_takes_the_original_command_again(rft, files, training):
    flags = [*GOOD, "--name", "a", "--seed", "7", "--set", "ppo.kl_coef=0.01", "--set", "ppo.value_clip=null"]
    assert rft("create", *flags).code == 0
    found = rft("create", *flags, "--resume", "a")
    assert found.code == 2, found.err
    assert "error: runs/a is finished" in found.err


def test_resume_refuses_other_settings_all_at_once(rft, files, training):
    assert rft("create", *GOOD, "--name", "a").code == 0
    found = rft(
        "create", "--resume", "a", "--seed", "3", "--set", "ppo.kl_coef=1", "--set", "ppo.value_clip=null"
    )
    assert found.code == 2
    assert found.err.splitlines()[:4] == [
        "error: runs/a can't resume: changed since the run started:",
        "  ppo.kl_coef: 0.005 -> 1.0",
        "  ppo.value_clip: 0.2 -> None",
        "  seed: 0 -> 3",
    ]
    assert "--force" in found.err


def test_resume_names_what_is_wrong_with_settings_given_now(rft, files, training):
    assert rft("create", *GOOD, "--name", "a").code == 0
    found = rft("create", "--resume", "a", "--config", "job.yaml", "--set", "ppo.klcoef=1")
    assert found.code == 2
    assert "job.yaml: no such file" in found.err
    assert "--set: ppo.klcoef: unknown setting" in found.err
    assert "--force needs --resume" in rft("create", *GOOD, "--force").err


def test_resume_refuses_changed_files_and_lists_them(rft, files, training):
    assert rft("create", *GOOD, "--name", "a", "--test", "test.jsonl").code == 0
    with (files / "val.jsonl").open("a") as file:
        file.write('{"task": "Add.", "input": "9 + 9", "output": "18"}\n')
    (files / "scorer.py").write_text((files / "scorer.py").read_text() + "\n# changed\n")
    found = rft("train", "--resume", "a", "--n-epochs", "50")
    assert found.code == 2
    lines = [line for line in found.err.splitlines() if line.endswith(" has changed")]
    assert [line.split(" has changed")[0] for line in lines] == [
        f"  data.validation: {files}/val.jsonl",
        f"  grader.path: {files}/scorer.py",
    ]


def test_a_run_that_is_being_written_is_refused(rft, files, training):
    training.before_end = lambda: os.kill(os.getpid(), signal.SIGTERM)
    assert rft("create", *GOOD, "--name", "a").code == 143
    with Run.open("a").lock():
        found = rft("train", "--resume", "a")
    assert found.code == 2
    assert f"runs/a is being written by process {os.getpid()}" in found.err
    assert Run.open("a").info["status"] == "interrupted"


def test_several_processes_are_launched_or_joined(rft, files, training, monkeypatch):
    module = types.ModuleType("rft_cli.training.distributed.launch")
    module.launch = lambda run, on_event, processes, resume, stop: (
        training.calls.append(f"launch {processes}")
        or training.train(training.job, run, on_event, resume, stop)
    )
    joined = []
    foreign = types.ModuleType("rft_cli.training.external_launcher")
    foreign.under_launcher = lambda job, on_event, run, stop: joined.append(run)
    foreign.together = lambda prepare: prepare()
    monkeypatch.setitem(sys.modules, "rft_cli.training.distributed.launch", module)
    monkeypatch.setitem(sys.modules, "rft_cli.training.external_launcher", foreign)

    assert rft("create", *GOOD, "--name", "a").code == 0
    found = rft("create", *GOOD, "--name", "b", "--num-processes", "2")
    assert found.code == 0, found.err
    assert training.calls == ["check", "train", "launch 2", "train"]  # each of two checks for itself
    assert Run.open("b").info["num_processes"] == 2

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    found = rft("train", "runs/a/config.yaml", "--name", "c")
    assert (found.code, found.out, found.err) == (0, "", "")
    assert joined == [None]
    found = rft("train", "--resume", "a", "--n-epochs", "50")
    assert found.code == 0
    assert joined[1].name == "a"


@dataclass
class Outcome:
    before: list | None
    after: list
    pilot: dict | None = None
    constants: list = field(default_factory=list)


@pytest.fixture
def measured(monkeypatch):
    """validate_models, with the rewards of base and tuned model written here."""
    found = {"base": 0.25, "tuned": 0.75, "asked": []}

    def validate_models(job, base, run, on_event):
        tuned = None if run is None else run.best_checkpoint()
        found["asked"].append((base, None if tuned is None else tuned.name))
        print("a library prints")
        before = samples(job, found["base"])
        return Outcome(None, before) if tuned is None else Outcome(before, samples(job, found["tuned"]))

    module = types.ModuleType("rft_cli.training.validate_models")
    module.validate_models = validate_models
    monkeypatch.setitem(sys.modules, "rft_cli.training.validate_models", module)
    return found


def test_validate_without_a_model_is_a_checklist(rft, files):
    found = rft("validate", *GOOD)
    assert found.code == 0
    lines = [" ".join(line.split()) for line in found.out.splitlines()]
    assert "ok train rows train.jsonl: 6 rows, format rft" in lines
    assert "– test rows not given" in lines
    assert any(line.startswith("ok grader score(completion, example) of scorer.py") for line in lines)


def test_validate_of_a_config_wants_a_whole_job(rft, files):
    (files / "job.yaml").write_text("data: {train: train.jsonl}\n")
    found = rft("validate", "job.yaml")
    assert found.code == 2
    assert "problem" in found.out
    assert "error: no validation file is set" in found.err
    assert "error: no grader is set" in found.err
    whole = rft("validate", "job.yaml", "-v", "val.jsonl", "--reward-model", "scorer.py", "--json")
    assert whole.code == 0
    checks = {check["name"]: check["ok"] for check in json.loads(whole.out)["checks"]}
    assert checks == {
        "train rows": True,
        "validation rows": True,
        "test rows": None,
        "overlap": True,
        "grader": True,
        "grader audit": True,
        "model": True,
    }


def test_validate_overlap_as_an_error_is_a_problem(rft, files):
    found = rft("validate", "-t", "val.jsonl", "-v", "val.jsonl", "--set", "data.overlap=error")
    assert found.code == 2
    assert "val.jsonl:1: the same prompt as val.jsonl:1" in found.err
    assert re.search(r"overlap +4 problems, listed below", found.out)
    assert "the same prompt" not in found.out


def test_validate_measures_one_model(rft, files, measured):
    found = rft("validate", "-v", "val.jsonl", "--reward-model", "scorer.py", "-m", "builtin/tiny")
    assert found.code == 0, found.err
    assert measured["asked"] == [("builtin/tiny", None)]
    assert "reward" in found.out
    assert "0.265 [0.26, 0.28]" in found.out
    assert "prints" not in found.out


def test_validate_measures_a_run_against_its_base(rft, files, training, measured):
    assert rft("create", *GOOD, "--name", "a").code == 0
    found = rft("validate", "--run", "latest", "--json", "--min-gain", "0.4", "--min-reward", "0.7")
    assert found.code == 0, found.err
    document = json.loads(found.out)
    assert measured["asked"] == [("builtin/tiny", "step-1")]
    assert document["validation"]["difference"]["mean"] == pytest.approx(0.5)
    assert document["components"]["json"]["after"]["mean"] == 1.0
    assert document["grader"] == {"graded": 8, "skipped": 0, "failed": 0}
    assert (document["status"], document["gates"], document["best_step"]) == ("ok", [], 1)
    table = rft("validate", "--run", "a")
    assert "builtin/tiny against step 1 of runs/a" in table.out
    assert "+0.500 [+0.50, +0.50]" in table.out


def test_validate_gates_say_which_was_not_met(rft, files, training, measured):
    assert rft("create", *GOOD, "--name", "a").code == 0
    found = rft("validate", "--run", "a", "--min-gain", "0.6", "--min-reward", "0.9")
    assert found.code == 1
    assert "--min-gain 0.6 is not met: the validation rows gained 0.5000" in found.err
    assert "--min-reward 0.9 is not met: the mean reward is 0.7650" in found.err
    document = rft("validate", "--run", "a", "--min-gain", "0.6", "--json")
    assert document.code == 1
    assert json.loads(document.out)["status"] == "gate not met"


def test_validate_of_a_run_whose_base_is_best(rft, files, training, measured):
    training.gain = 0.0
    assert rft("create", *GOOD, "--name", "a").code == 0
    found = rft("validate", "--run", "a", "--min-gain", "0")
    assert found.code == 1
    assert "nothing beat the base in runs/a" in found.err
    assert measured["asked"] == [("builtin/tiny", None)]
