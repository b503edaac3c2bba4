"""`rft runs`, `show`, `compare`, `report`: what they print, their JSON, their errors, hostile text, a real job."""

import json
import re
import shutil

import pytest

from rft_cli.commands.report import keep_report
from rft_cli.runs import Run
from tests.faults.test_hostile_text import assert_harmless
from tests.pages.conftest import hostile_run
from tests.pages.hostile import HOSTILE
from tests.view.made_runs import line, make_run, sample

LINES = [line(step, reward=0.1 * step) for step in range(1, 9)]
BASE = [sample(row, 0.0, f"before {row}", components={"form": 0.0}) for row in range(4)]
AFTER = [
    sample(row, (1.0, 0.5, 0.0, None)[row], f"after {row}", components={"form": 1.0}) for row in range(4)
]


@pytest.fixture
def made(tmp_path):
    """Three runs in `runs/`: finished, killed, and one that can't be read."""
    folder = tmp_path / "runs"
    make_run(folder, "good", lines=LINES, validations={0: BASE, 8: AFTER}, rollouts={0: BASE}, best_step=8)
    make_run(folder, "killed", lines=LINES[:2], validations={0: BASE}, finish=False)
    make_run(folder, "newer", finish=False)
    (folder / "newer" / "run.json").write_text('{"schema_version": 99, "status": "finished"}')
    return folder


def test_the_list_shows_status_model_reward_and_when(rft, made):
    done = rft("runs")
    assert done.code == 0
    assert re.search(r"good +finished +builtin/tiny +0\.000 -> 0\.500 +\+0\.500.* s ago", done.out)
    assert re.search(r"killed +\w+ +builtin/tiny +–", done.out)
    assert "newer: " in done.out
    assert "schema version 99" in done.out
    document = json.loads(rft("runs", "--json").out)
    assert document["schema"] == "rft.runs/1"
    assert {entry["name"]: entry["status"] for entry in document["runs"]}["newer"] == "unreadable"


def test_a_folder_without_runs_and_one_that_is_not_there(rft, tmp_path):
    (tmp_path / "empty").mkdir()
    done = rft("runs", "--output-dir", "empty")
    assert (done.code, done.out) == (0, "no runs in empty; make one with `rft create`\n")
    assert rft("runs").code == 0  # a new user's folder
    assert json.loads(rft("runs", "--json").out) == {"schema": "rft.runs/1", "runs": []}
    done = rft("runs", "--output-dir", "nowhere")
    assert (done.code, done.err.splitlines()[0]) == (
        2,
        "error: --output-dir nowhere: there is no such folder",
    )


@pytest.mark.parametrize("width", ["60", "100", "160"])
def test_a_run_is_shown_with_result_curves_and_diagnosis_in_any_width(rft, made, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    done = rft("show", "good")
    assert done.code == 0
    assert "Mean reward on the validation rows went from 0.000 to 0.500" in " ".join(done.out.split())
    assert "Reward by step" in done.out
    assert re.search(r"^0\.800 \| +·$", done.out, re.MULTILINE)
    assert re.search(r"^ +0 +8$", done.out, re.MULTILINE)
    assert re.search(r"Entropy.*▁.*1\.000", done.out)
    assert "Diagnosis" in done.out
    assert "next  rft train" in done.out  # the interval includes 0
    copied = ("run ", "look ", "next ")
    assert [
        text for text in done.out.splitlines() if len(text) > int(width) and not text.startswith(copied)
    ] == []


def test_an_unfinished_run_is_shown_with_how_to_go_on(rft, made):
    done = rft("show", "killed")
    assert done.code == 0
    assert "nothing has beaten the base yet" in done.out


def test_show_as_json(rft, made):
    document = json.loads(rft("show", "good", "--json").out)
    assert document["schema"] == "rft.show/1"
    assert document["measured"]["reward"]["difference"]["mean"] == 0.5
    assert {chart["name"] for chart in document["charts"]} >= {"reward", "reward/form", "entropy", "seconds"}
    assert document["next"] == f"rft train {made / 'good'}/config.yaml --n-epochs 2"
    assert (document["gaming"]["verdict"], document["guard"], document["doubt"]) == (
        "not measured",
        None,
        None,
    )


def test_rows_through_the_steps_lowest_rewards_and_gains(rft, made):
    done = rft("show", "good", "--row", "1")
    assert (done.code, done.err) == (0, "")
    assert re.search(r"line-1, validation row.*before 0.*step 8 +1\.000.*after 0", done.out, re.DOTALL)
    assert "before 0" in rft("show", "good", "--row", "line-1", "--split", "training").out
    done = rft("show", "good", "--worst", "2")
    assert re.findall(r"^(line-\d)  (.*?)   ", done.out, re.MULTILINE) == [
        ("line-3", "0.000 -> 0.000"), ("line-2", "0.000 -> 0.500")]  # fmt: skip
    assert "line-1  0.000 -> 1.000" in rft("show", "good", "--gains", "1").out
    assert rft("show", "good", "--losses", "3").out.startswith(
        "Largest losses, validation rows, base and step 8: none"
    )
    found = json.loads(rft("show", "good", "--worst", "1", "--json").out)
    assert found["rows"][0]["after"]["completion"] == "after 2"
    found = json.loads(rft("show", "good", "--row", "4", "--json").out)
    assert [(c["step"], c["status"]) for c in found["completions"]] == [(0, "graded"), (8, "failed")]


def test_completions_without_a_grade_have_their_reasons(rft, made):
    done = rft("show", "good", "--failed")
    assert "Completions without a grade: 1 failed, 0 skipped\n1 × raised: ValueError: no\n" in done.out
    assert "after 3" in done.out
    assert json.loads(rft("show", "good", "--failed", "--json").out)["counts"] == {"failed": 1, "skipped": 0}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["show", "nothing"], "nothing is not a run"),
        (["show", "newer"], "schema version 99"),
        (["show", "good", "--row", "99"], "--row 99: "),
        (["show", "good", "--row", "1", "--worst", "2"], "--row and --worst can't be shown together"),
        (["show", "good", "--row", "1", "--split", "x"], "--split x: not a split"),
        (["show", "good", "--worst", "1", "--split", "training"], "--worst has no training rows"),
        (["compare", "good"], "1 run given"),
        (["compare", *["good"] * 6], "6 runs given"),
        (["report", "nothing"], "nothing is not a run"),
        (["report", "good", "--to", "nowhere/x.html"], "there is no folder"),
        (["report", "good", "good", "good", "good", "good", "good"], "6 runs given"),
    ],
)
def test_what_is_wrong_is_one_message(rft, made, args, message):
    done = rft(*args)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("error: ") == 1
    assert json.loads(rft(*args, "--json").out)["error"]["exit_code"] == 2


def test_runs_are_compared(rft, made):
    shutil.copytree(made / "good", made / "same")
    done = rft("compare", "good", "same")
    assert done.code == 0
    assert "same and good can't be told apart" in done.out
    assert "Difference from good, paired by validation row" in done.out
    document = json.loads(rft("compare", "good", "same", "--json").out)
    assert document["schema"] == "rft.compare/1"
    assert [(d["figure"], d["rows"]) for d in document["differences"]] == [("reward", 3), ("form", 3)]


def test_reports_are_written_or_printed(rft, made, tmp_path):
    done = rft("report", "good")
    assert done.code == 0
    assert re.fullmatch(r"report  runs/good/report\.html   \(\d+ kB\)\n", done.out)
    assert "<title>good – rft report</title>" in (made / "good" / "report.html").read_text()
    assert rft("report", "good", "killed").out.startswith("report  runs/compare-good-killed.html")
    done = rft("report", "good", "--format", "md")
    assert done.out.startswith("## rft: good\n")
    assert rft("report", "good", "--format", "md", "--to", "r.md").code == 0
    assert (tmp_path / "r.md").read_text() == done.out
    assert rft("report", "good", "--to", "-").out.startswith("<!doctype html>")
    document = json.loads(rft("report", "good", "--json").out)
    assert (document["schema"], document["file"]) == ("rft.report/1", "runs/good/report.html")
    assert json.loads(rft("report", "good", "--format", "md", "--json").out)["text"] == done.out


def test_a_report_that_cannot_be_written_at_the_end_of_a_job_is_a_warning(made):
    run, notes = Run(made / "good"), []
    (run.path / "report.html").mkdir()
    keep_report(run, notes.append)
    (note,) = notes
    assert note.level == "warning"
    assert note.text.startswith("no report was written (")
    assert f"`rft report {run.path}` tries again" in note.text
    (run.path / "report.html").rmdir()
    shutil.rmtree(run.path)  # and a run that somebody deleted
    keep_report(run, notes.append)
    assert "run.json can't be read" in notes[1].text


def test_hostile_runs_are_harmless_on_a_terminal_and_in_json(rft, tmp_path):
    for name in ("a", "b"):
        hostile_run(tmp_path / "runs", name)
    for args in (["runs"], ["show", "a"], ["show", "a", "--worst", "30"], ["show", "a", "--gains", "30"],
                 ["show", "a", "--failed"], ["show", "a", "--row", "\x1b[31m"],
        ["show", "a", "--row", HOSTILE[21][:300]], ["compare", "a", "b"]):  # fmt: skip
        done = rft(*args)
        assert done.code == (2 if args[-1] == "\x1b[31m" else 0), done.err
        for shown in (done.out, done.err, rft(*args, "--json").out):
            assert_harmless(shown.encode())


def test_a_real_job_ends_with_its_report_and_its_diagnosis(rft, finished, tmp_path):
    run = finished(tmp_path)
    assert "<h1" in (run.path / "report.html").read_text()
    assert isinstance(run.info["result"]["diagnosis"], list)
    done = rft("show", run.path)
    assert (done.code, done.err) == (0, "")
    document = json.loads(rft("show", run.path, "--json").out)
    assert document["problems"] == []
    assert {"reward", "kl_per_token", "entropy", "completion_tokens", "constant_groups", "seconds"} <= {
        chart["name"] for chart in document["charts"]}  # fmt: skip
    assert [source["what"] for source in document["inputs"]][:2] == ["model", "train"]
    assert json.loads(rft("show", run.path, "--gains", "3", "--json").out)["problems"] == []
