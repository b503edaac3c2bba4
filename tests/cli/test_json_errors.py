"""Under --json an error is one JSON object on standard output, whatever it is; exit code and standard error stay."""

import json
import os
import subprocess
import sys

import pytest

from rft_cli.errors import GateNotMet, Interrupted, RftError, RunFailed, UsageError, UsageErrors
from tests.cli.conftest import GOOD
from tests.cli.test_errors import ended

JOB = ("-t", "train.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py")


def error_of(found):
    document = json.loads(found.out)
    assert list(document) == ["error"]
    assert document["error"]["exit_code"] == found.code
    return document["error"]


@pytest.mark.parametrize(
    ("args", "message", "where"),
    [
        (["create", "--modle", "x"], "No such option: --modle", "--modle"),
        (["train", "a.yaml", "b.yaml"], "Got unexpected extra argument(s) (b.yaml)", None),
        (["export"], "Missing argument 'RUN'", None),
        (["grade", "--min-reward", "much"], "Invalid value for '--min-reward'", "--min-reward"),
        (["grade", "--audit-rows", "0"], "Invalid value for '--audit-rows'", "--audit-rows"),
        (["validate", "--gate-on", "high"], "Invalid value for '--gate-on'", "--gate-on"),
        (["creat"], "No such command 'creat'", None),
        (["--verison", "create"], "No such option: --verison", "--verison"),
        (["create", "-t", "none.jsonl"], "none.jsonl: no such file", "none.jsonl"),
        (["create", *JOB, "--set", "ppo.kl=1"], "--set: ppo.kl: unknown setting", None),
        (["train", "bad.yaml"], "bad.yaml:2:3: optim.n_epoch: unknown setting", "bad.yaml:2:3"),
        (["train", "none.yaml"], "none.yaml: no such file", "none.yaml"),
        (["train", "--resume", "nobody"], "nobody", None),
        (["validate", "--model", "x", "--run", "y"], "--model and --run exclude each other", None),
        (["export", "nobody"], "nobody", None),
        (["grade", "--reward-model", "none.py", "val.jsonl"], "none.py: no such file", "none.py"),
        (["grade", "--reward-model", "scorer.py", "cut.jsonl"], "cut.jsonl:1", "cut.jsonl:1"),
        (
            ["grade", "--reward-model", "scorer.py", "--audit", "none.jsonl"],
            "none.jsonl: no such",
            "none.jsonl",
        ),
    ],
)
def test_wrong_usage_is_an_object(rft, files, args, message, where):
    (files / "bad.yaml").write_text("optim:\n  n_epoch: 2\n")
    (files / "cut.jsonl").write_text('{"completion": \n')
    found = rft(*args, "--json")
    error = error_of(found)
    assert found.code == 2
    assert message in error["message"]
    assert where is None or error["where"].startswith(where)
    assert message.splitlines()[0].split(" (")[0] in found.err  # people are told as ever
    assert rft(*args).out == ""  # and without --json standard output stays empty


def test_several_problems_stand_side_by_side(rft, files):
    error = error_of(rft("create", "-t", "none.jsonl", "-v", "none.jsonl", "--model", "gpt-4o", "--json"))
    assert len(error["problems"]) >= 3
    assert error["problems"][0] == {key: error[key] for key in ("message", "fix", "where", "setting")}


def test_a_checklist_with_problems_is_one_document(rft, files):
    found = rft("validate", "-t", "none.jsonl", "--reward-model", "scorer.py", "--json")
    document = json.loads(found.out)
    assert found.code == document["error"]["exit_code"] == 2
    assert document["status"] == "failed"
    assert document["error"]["message"] == document["problems"][0]["message"]


def test_what_is_read_in_another_way_stands_once_in_the_checklist(rft, files):
    (files / "rows.csv").write_text("question;output\na, b;yes\n")
    document = json.loads(rft("validate", "-t", "rows.csv", "-v", "rows.csv", "--json").out)
    told = [note for note in document["notes"] if "semicolons" in note]
    assert told == ["rows.csv: columns are separated by semicolons"]


def test_a_gate_that_is_not_met_is_in_the_result(rft, files):
    lines = [json.dumps({"completion": "no", "output": "yes"})] * 3
    (files / "rows.jsonl").write_text("\n".join(lines))
    found = rft("grade", "--reward-model", "scorer.py", "rows.jsonl", "--min-reward", "0.5", "--json")
    document = json.loads(found.out)
    assert found.code == document["error"]["exit_code"] == 1
    assert document["graded"] == 3
    assert document["error"]["message"] == "--min-reward 0.5 is not met: the mean reward is 0.0000"
    met = rft("grade", "--reward-model", "scorer.py", "rows.jsonl", "--min-reward", "0", "--json")
    assert met.code == 0
    assert "error" not in json.loads(met.out)


def test_summary_is_the_same_as_json(rft, files):
    assert error_of(rft("grade", "--summary", "--reward-model", "none.py"))["where"] == "none.py"


def test_json_after_two_dashes_is_a_file(rft, files):
    assert rft("grade", "--reward-model", "none.py", "--", "--json").out == ""


def end_with(error):
    found = ended(error, "--json")
    return found.exit_code, found.stdout


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UsageError("a.jsonl:1: bad", "do this"), 2, ("a.jsonl:1: bad", "do this", "a.jsonl:1")),
        (UsageErrors([]), 2, ("", None, None)),
        (RunFailed("it diverged at step 3", "lower the rate"), 3, ("it diverged at step 3", "lower the rate", None)),
        (GateNotMet("too low"), 1, ("too low", None, None)),
        (Interrupted(15, "interrupted by SIGTERM", "resume"), 143, ("interrupted by SIGTERM", "resume", None)),
        (KeyboardInterrupt(), 130, ("interrupted", None, None)),
        (ValueError("odd"), 3, ("internal error: ValueError: odd", "run with --debug for the traceback", None)),
    ],
)  # fmt: skip
def test_whatever_ends_a_command_is_an_object(error, code, told):
    exit_code, out = end_with(error)
    document = json.loads(out)
    assert exit_code == document["error"]["exit_code"] == code
    assert tuple(document["error"][name] for name in ("message", "fix", "where")) == told


def test_an_error_that_the_document_tells_is_not_told_twice():
    error = GateNotMet("too low")
    error.in_document = True
    assert end_with(error) == (1, "")
    assert end_with(BrokenPipeError()) == (0, "")


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ("my data.jsonl:3: bad", "my data.jsonl:3"),
        ("dir/a.yaml:3:14: optim.x: bad", "dir/a.yaml:3:14"),
        ("--set ppo.kl_coef: must be a number", "--set ppo.kl_coef"),
        ("--learning-rate: must be a number", "--learning-rate"),
        ("RFT_SEED: must be a number", "RFT_SEED"),
        ("optim.n_epochs: must be more", "optim.n_epochs"),
        ("Qwen/none: no such model", "Qwen/none"),
        ("the server at http://127.0.0.1:8000: refused", None),
        ("runs/a is finished: its result is in run.json", None),
        ("no grader is set", None),
    ],
)
def test_the_place_is_what_the_message_begins_with(message, where):
    assert RftError(message).where == where


def test_a_reader_that_is_gone_changes_no_exit_code(files):
    reader, writer = os.pipe()
    os.close(reader)
    found = subprocess.run(
        [sys.executable, "-m", "rft_cli", "create", *GOOD, "--seed", "x", "--json"],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
    )  # fmt: skip
    os.close(writer)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    assert found.stderr.startswith("error: --seed")
