"""Every mistake in flags, YAML, data or scorer: exit code 2, one short message, the fix, and no run."""

import json
from pathlib import Path

import pytest

GOOD = {"-t": "train.jsonl", "-v": "val.jsonl", "--reward-model": "scorer.py"}


def command(**changed):
    flags = dict(GOOD)
    extra = changed.pop("extra", [])
    flags.update({"-t": changed.get("t", GOOD["-t"]), "-v": changed.get("v", GOOD["-v"])})
    flags["--reward-model"] = changed.get("scorer", GOOD["--reward-model"])
    return ["create", *(part for flag in flags.items() if flag[1] is not None for part in flag), *extra]


@pytest.fixture
def bad(files):
    """Files with one thing wrong in each."""
    (files / "empty.jsonl").write_text("")
    (files / "nojson.jsonl").write_text('{"task": "a", "input": "b", "output": "c"}\n{"task": "a"\n')
    (files / "noprompt.jsonl").write_text('{"task": "a", "input": "b"}\n{"ouput": "x"}\n')
    (files / "typo.yaml").write_text("optim:\n  lerning_rate: 1e-5\n")
    (files / "noimport.py").write_text("import no_such_module\n")
    (files / "nofunction.py").write_text("def one(x):\n    return 1\n\n\ndef two(x):\n    return 2\n")
    (files / "raises.py").write_text("def score(completion, example):\n\n    return example['nope']\n")
    (files / "syntax.py").write_text("def score(completion:\n    return 1\n")
    (files / "empty_dir").mkdir()
    return files


CASES = {
    "missing file": (command(t="trian.jsonl"), ["trian.jsonl: no such file", "did you mean 'train.jsonl'?"]),
    "empty file": (command(t="empty.jsonl"), ["empty.jsonl: the file has no rows"]),
    "no JSON": (command(t="nojson.jsonl"), ["nojson.jsonl:2:"]),
    "no prompt": (command(v="noprompt.jsonl"), ["noprompt.jsonl:2:", "no prompt"]),
    "standard input": (command(t="-"), ["can't take '-'"]),
    "unknown key in YAML": (
        command(extra=["--config", "typo.yaml"]),
        ["typo.yaml:2:3: optim.lerning_rate", "did you mean 'optim.learning_rate'?"],
    ),
    "unknown key in --set": (
        command(extra=["--set", "ppo.klcoef=1"]),
        ["ppo.klcoef", "did you mean 'ppo.kl_coef'?"],
    ),
    "bad value of a flag": (command(extra=["--n-epochs", "0"]), ["--n-epochs: must be a whole number >= 1"]),
    "bad algorithm": (command(extra=["--algorithm", "pppo"]), ["--algorithm", "did you mean 'ppo'?"]),
    "no training file": (command(t=None), ["no training file is set", "-t FILE"]),
    "no validation file": (command(v=None), ["no validation file is set", "-v FILE"]),
    "no grader": (command(scorer=None), ["no grader is set", "--reward-model"]),
    "scorer is missing": (command(scorer="scorre.py"), ["scorre.py: no such file", "scorer.py"]),
    "scorer does not import": (command(scorer="noimport.py"), ["noimport.py:1", "no_such_module"]),
    "scorer has no known function": (command(scorer="nofunction.py"), ["nofunction.py", "score"]),
    "scorer raises": (
        command(scorer="raises.py"),
        ["raises.py:3", "KeyError: 'nope'", "task, input, output"],
    ),
    "scorer is not Python": (command(scorer="syntax.py"), ["syntax.py:1"]),
    "hosted model": (
        command(extra=["--model", "gpt-4o-mini"]),
        ["gpt-4o-mini is a hosted model", "Qwen/Qwen3-0.6B", "builtin/tiny"],
    ),
    "model directory is missing": (
        command(extra=["-m", "./empty_dri"]),
        ["./empty_dri: no such", "'empty_dir'?"],
    ),
    "model directory is empty": (command(extra=["-m", "empty_dir"]), ["empty_dir holds no model"]),
    "model is a file": (command(extra=["-m", "val.jsonl"]), ["val.jsonl is a file"]),
    "model is not downloaded": (
        command(extra=["-m", "Qwen/Qwen3-0.6B"]),
        ["not in the local Hugging Face cache"],
    ),
    "builtin that is not there": (command(extra=["-m", "builtin/small"]), ["there is no builtin/small"]),
    "near a builtin": (command(extra=["-m", "tiny"]), ["did you mean builtin/tiny?"]),
    "no runs yet": (command(extra=["-m", "latest"]), ["there are no runs in runs"]),
    "unknown option": (["create", "--nepochs", "3"], ["No such option: --nepochs", "--n-epochs"]),
    "unknown command": (["craete"], ["No such command 'craete'", "create"]),
    "config is missing": (["train", "no.yaml"], ["no.yaml: no such file"]),
    "train without config": (["train"], ["there is no CONFIG.yaml", "--resume RUN"]),
    "two configs": (["train", "typo.yaml", "--config", "b.yaml"], ["two configuration files"]),
    "run is missing": (["train", "--resume", "abc"], ["abc is not a run"]),
    "nothing to validate": (["validate"], ["there is nothing to check"]),
    "model and run": (["validate", "-m", "builtin/tiny", "--run", "latest"], ["exclude each other"]),
    "gain of one model": (["validate", "-m", "builtin/tiny", "--min-gain", "0"], ["--min-gain needs --run"]),
    "gate without a model": (
        ["validate", "-v", "val.jsonl", "--min-reward", "0"],
        ["--min-reward needs --model"],
    ),
    "validate a missing run": (["validate", "--run", "latest"], ["there are no runs in runs"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_ends_with_2_and_says_what_where_and_what_to_do(rft, bad, case):
    args, said = CASES[case]
    found = rft(*args)
    assert found.code == 2, found.err
    for text in said:
        assert text in found.err
    assert found.out == ""
    assert "Traceback" not in found.err
    assert len(found.err.splitlines()) <= 5, found.err
    assert not (bad / "runs").exists()


def test_all_problems_come_at_once(rft, bad):
    found = rft(
        *command(t="nojson.jsonl", scorer="raises.py", extra=["-m", "o3-mini", "--test", "empty.jsonl"])
    )
    assert found.code == 2
    errors = [line for line in found.err.splitlines() if line.startswith("error: ")]
    assert [line.split(":")[1].strip() for line in errors][:2] == ["nojson.jsonl", "empty.jsonl"]
    assert "raises.py:3: KeyError: 'nope'" in errors[2]
    assert "o3-mini is a hosted model" in errors[3]


@pytest.mark.parametrize(
    "name",
    ["gpt-4o-mini", "gpt-4.1", "openai/gpt-5", "o1", "o3-mini", "o4-mini", "claude-sonnet-4", "gemini-2.0-flash",
     "ft:gpt-4o-mini:acme::1", "chatgpt-4o-latest", "anthropic/claude-3"],
)  # fmt: skip
def test_hosted_models_are_named_as_such(rft, files, name):
    found = rft(*command(extra=["-m", name]))
    assert found.code == 2
    assert f"{name} is a hosted model" in found.err


@pytest.mark.parametrize(
    "name", ["gpt2", "openai/gpt-oss-20b", "EleutherAI/gpt-neo-125m", "EleutherAI/gpt-j-6b"]
)
def test_open_models_with_such_names_are_not(rft, files, name):
    found = rft(*command(extra=["-m", name]))
    assert "hosted" not in found.err
    assert "not in the local Hugging Face cache" in found.err


def test_debug_shows_the_traceback_too(rft, files, monkeypatch):
    found = rft("train", "no.yaml", "--debug")
    assert found.code == 2
    assert "Traceback" in found.err
    assert "error: no.yaml: no such file" in found.err
    monkeypatch.setenv("RFT_DEBUG", "1")
    assert "Traceback" in rft("train", "no.yaml").err


def test_other_ranks_of_a_launcher_say_nothing(rft, files, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = rft("train", "no.yaml", "--debug")
    assert (found.code, found.err) == (2, "")


def test_underscores_work_for_every_option(rft, files):
    found = rft("create", "--training_file", "a.jsonl", "--validation_file", "b.jsonl", "--reward_model", "c.py",
                "--learning_rate", "1e-4", "--n_epochs", "2", "--num_processes", "1", "--output_dir", "o")  # fmt: skip
    assert found.code == 2
    for name in ("a.jsonl", "b.jsonl", "c.py"):
        assert f"error: {name}: no such file" in found.err
    assert "--n_epochs" not in rft("create", "--help").out
    assert rft("validate", "--min_reward", "1").err.startswith("error: --min-reward needs")


def test_a_failed_check_is_a_document_too(rft, files):
    found = rft("validate", "-t", "train.jsonl", "--reward-model", "nope.py", "--json")
    assert found.code == 2
    document = json.loads(found.out)
    assert document["status"] == "failed"
    assert [problem["message"] for problem in document["problems"]] == ["nope.py: no such file"]
    assert {check["name"]: check["ok"] for check in document["checks"]}["grader"] is False
    assert found.err.startswith("error: nope.py: no such file")


def test_a_name_that_can_not_be_is_told_with_all_else(rft, files):
    found = rft(
        "create", "-t", "nope.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py", "--name", "a/b"
    )
    assert found.code == 2
    assert "nope.jsonl: no such file" in found.err
    assert "--name 'a/b' can't be a run's name" in found.err
    Path("file").touch()
    found = rft(
        "create", "-t", "nope.jsonl", "-v", "val.jsonl", "--reward-model", "scorer.py", "--output-dir", "file"
    )
    assert "cannot make a run in file" in found.err


def test_what_a_yaml_file_names_is_told_with_its_line(rft, files):
    Path("job.yaml").write_text(
        "data:\n  train: nope.jsonl\n  validation: val.jsonl\ngrader: {path: scorer.py}\nmodel: {path: gpt-4o-mini}\n"
    )
    found = rft("train", "job.yaml")
    assert found.code == 2
    assert "error: job.yaml:2:10: data.train: nope.jsonl: no such file" in found.err
    assert "error: job.yaml:5:15: model.path: gpt-4o-mini is a hosted model" in found.err
    Path("val.jsonl").write_text("{\n")
    found = rft("train", "job.yaml", "-t", "nope.jsonl")
    assert "error: nope.jsonl: no such file" in found.err, "a flag is no line of the file"
    assert "error: val.jsonl:1" in found.err
