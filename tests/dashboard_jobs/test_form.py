"""The form that starts jobs: the command that it makes, what is wrong at which field, and who may send it."""

import json
import shlex

from rft_cli.config.keys import all_keys
from rft_cli.dashboard.jobs.form import sections
from tests.command import rft
from tests.dashboard_jobs.conftest import SHORT, command, problems


def test_it_offers_ten_settings_with_the_schemas_words_and_defaults(dashboard):
    page = dashboard.get("/start").text
    settings = sections()["Settings"]
    assert len(settings) == 10
    for field in settings:
        key = all_keys()[field.key]
        assert f'name="{field.key}"' in page
        assert field.help == key.description
        assert field.placeholder == ("" if key.default is None else str(key.default))
    assert "Rank of the adapter matrices." in page
    assert 'placeholder="0.005"' in page


def test_the_command_follows_the_form_and_is_quoted_for_a_shell(dashboard):
    sent = {
        "data.train": "my rows.jsonl",
        "grader.path": "it's.py",
        "algorithm": "grpo",
        "optim.n_epochs": "2",
        "rollout.temperature": "0.9",
        "more": "optim.max_steps=4\n\n  ppo.passes=1 ",
    }
    shown = dashboard.post("/start/command", **sent).json()["command"]
    assert shlex.split(shown) == [
        *("rft", "create", "--algorithm", "grpo", "-t", "my rows.jsonl", "--reward-model", "it's.py"),
        *("--n-epochs", "2", "--set", "rollout.temperature=0.9"),
        *("--set", "optim.max_steps=4", "--set", "ppo.passes=1", "--output-dir", "runs"),
    ]


def test_every_problem_is_at_its_field_in_the_words_of_the_command_line(dashboard):
    folder = dashboard.folder
    (folder / "bad.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    (folder / "bad.py").write_text("def score(completion)\n    return 1\n")
    sent = {
        "data.train": "bad.jsonl",
        "data.validation": "bad.jsonl",
        "grader.path": "bad.py",
        "model.path": "gpt-4o",
    }
    answer = dashboard.post("/start", do="start", name="latest", **sent)
    found = problems(answer.text)
    assert answer.status_code == 400
    assert set(found) == {"data.train", "data.validation", "grader.path", "model.path", "name"}
    assert found["data.train"] == found["data.validation"]
    assert found["data.train"].startswith("bad.jsonl:2")
    assert found["grader.path"] == "bad.py:1:22: expected ':' correct the Python syntax"
    said = rft(*shlex.split(command(answer.text))[1:], folder=folder)
    assert said.code == 2
    for problem in said.problems:
        assert any(text.startswith(problem) for text in found.values())
    # what was typed is still there
    assert 'value="bad.py"' in answer.text
    assert not (folder / "runs").exists()


def test_bad_settings_are_at_their_fields(dashboard):
    sent = {
        "optim.learning_rate": "-3",
        "rollout.group_size": "one",
        "lora.r": "0",
        "more": "ppo.kl=1\nppo.gamma=7",
    }
    found = problems(dashboard.post("/start", **SHORT | sent, do="check").text)
    assert set(found) == {"optim.learning_rate", "rollout.group_size", "lora.r", "more"}
    assert "must be a number > 0 or 'auto' (got -3)" in found["optim.learning_rate"]
    assert found["rollout.group_size"].startswith("must be")
    assert "ppo.kl: unknown setting" in found["more"]
    assert "ppo.gamma" in found["more"]


def test_needed_files_that_are_missing_are_at_their_fields(dashboard):
    found = problems(dashboard.post("/start", do="check").text)
    assert set(found) == {"data.train", "data.validation", "grader.path"}
    assert found["data.train"].startswith("no training file is set")


def test_a_problem_of_the_configuration_file_is_at_its_field(dashboard):
    (dashboard.folder / "job.yaml").write_text("optim:\n  n_epoch: 2\n")
    found = problems(dashboard.post("/start", do="check", config="job.yaml", **SHORT).text)
    assert list(found) == ["config"]
    assert found["config"].startswith("job.yaml:2:3: optim.n_epoch: unknown setting")


def test_no_value_becomes_an_option_or_reaches_a_shell(dashboard):
    sent = {
        "data.train": "--help",
        "data.validation": "-v",
        "grader.path": "$(touch owned).py; touch owned",
        "model.path": "--json",
        "optim.n_epochs": "--force",
        "seed": "-1; touch owned",
        "name": "--debug",
        "more": "--resume=latest\n-h",
    }
    answer = dashboard.post("/start", do="start", **sent)
    assert answer.status_code == 400
    found = problems(answer.text)
    assert "--force" in found["optim.n_epochs"]
    assert "--resume" in found["more"]
    settings = {key: value for key, value in sent.items() if key not in ("optim.n_epochs", "seed", "more")}
    found = problems(dashboard.post("/start", do="start", **settings).text)
    assert set(found) == set(settings)
    assert not (dashboard.folder / "owned").exists()
    assert problems(dashboard.post("/start", do="start", seed="1\0").text)["seed"].startswith("holds a NUL")


def test_what_is_typed_is_shown_as_text(dashboard):
    page = dashboard.post("/start", do="check", **{"data.train": '"><script>x</script>'}).text
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page


def test_only_forms_of_this_dashboard_are_accepted(dashboard):
    for path in ("/start", "/start/command", "/jobs/x/stop", "/runs/x/stop", "/runs/x/resume"):
        assert dashboard.post(path, origin="http://evil.example").status_code == 403
        assert dashboard.post(path, form_token="").status_code == 403
        assert dashboard.get(path).status_code in (200, 404, 405)
    assert not (dashboard.folder / "runs").exists()


def test_a_check_that_passes_shows_the_plan_and_starts_nothing(dashboard):
    answer = dashboard.post("/start", do="check", **SHORT)
    assert answer.status_code == 200
    assert problems(answer.text) == {}
    assert "The check passed" in answer.text
    assert "24 rows" in answer.text
    assert not (dashboard.folder / "runs").exists()


def test_files_of_the_folder_are_listed_and_no_others(dashboard, tmp_path):
    folder = dashboard.folder
    (folder / "rows").mkdir()
    (folder / "rows" / "more.CSV").write_text("a\n")
    (folder / ".secret").mkdir()
    (folder / ".secret" / "key.jsonl").write_text("{}\n")
    (tmp_path / "other.jsonl").write_text("{}\n")
    (folder / "out").symlink_to(tmp_path)
    (folder / "out.jsonl").symlink_to(tmp_path / "other.jsonl")
    (folder / "inside.jsonl").symlink_to(folder / "val.jsonl")

    def listed(at, field="data.train"):
        return dashboard.get("/start/files", field=field, at=at)

    top = listed("").json()
    names = [name for name, _ in top["files"]]
    assert {"train.jsonl", "val.jsonl", "inside.jsonl"} <= set(names)
    assert not {"out.jsonl", "scorer.py"} & set(names)
    assert "rows" in top["folders"]
    assert not {"out", ".secret"} & set(top["folders"])
    assert listed("rows").json()["files"] == [["more.CSV", 2]]
    assert [name for name, _ in listed("", "grader.path").json()["files"]].count("scorer.py") == 1
    assert listed("", "model.path").json()["files"] == []
    for at in ("..", "/etc", "rows/../..", "out", ".secret", "none", "train.jsonl", "a\0b"):
        answer = listed(at)
        assert answer.status_code == 404, at
        assert "files" not in json.loads(answer.text)
    assert listed("", "no field").status_code == 404
