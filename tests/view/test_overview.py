"""The overview of a run: finished, unfinished, damaged, newer, deleted; quick and small however long it was."""

import io
import json
import os
import resource
import shutil
import time

import pytest

from rft_cli.errors import UsageError
from rft_cli.runs import Run
from rft_cli.runs.files import read_lines
from rft_cli.view.entries import DIED, UNREADABLE, list_entries
from rft_cli.view.overview import read_overview
from tests.view.made_runs import large_run, line, make_run, sample

BASE = [sample(row, 0.0, components={"form": 0.0}) for row in range(6)]
BETTER = [sample(row, 1.0, components={"form": 1.0}) for row in range(6)]
LINES = [line(step, reward=step / 10) for step in range(1, 9)]


def test_a_finished_run_shows_the_figures_of_its_result(tmp_path):
    run = make_run(tmp_path, lines=LINES, validations={0: BASE, 8: BETTER}, best_step=8)
    found = read_overview(run)
    assert found.problems == []
    assert (found.entry.status, found.steps, found.split) == ("finished", 8, "validation")
    assert (
        found.measured["reward"].difference.mean
        == run.info["result"]["validation"]["difference"]["mean"]
        == 1.0
    )
    assert found.measured["form"].after.mean == 1.0
    assert found.summary is not None
    assert found.next == f"rft export {run.path}"
    document = json.loads(json.dumps(found.to_json()))
    assert document["schema"] == "rft.show/1"
    assert document["charts"][0]["curves"][1]["values"] == [0.0, 1.0]


def test_result_and_diagnosis_read_each_validation_once(tmp_path, monkeypatch):
    run = make_run(tmp_path, lines=LINES, validations={0: BASE, 4: BETTER, 8: BETTER}, best_step=4)
    read = []
    real = read_lines

    def counted(file):
        read.append(file.stem)
        return real(file)

    monkeypatch.setattr("rft_cli.runs.run.read_lines", counted)
    assert read_overview(run).problems == []
    assert {"step-000000", "step-000004"} <= set(read)
    assert len(read) == len(set(read))


def test_the_commands_of_a_run_that_was_moved_have_the_path_where_it_is(tmp_path):
    run = make_run(tmp_path, "job", lines=LINES, validations={0: BASE, 8: BETTER}, best_step=8)
    said = f"read `rft show {run.path} --gains 5`, not {run.path}-2"
    run.update(warnings=[{"step": 0, "text": said}])
    moved = tmp_path / "my runs" / "job"
    moved.parent.mkdir()
    shutil.move(run.path, moved)
    found = read_overview(Run.open(moved))
    assert found.next == f"rft export '{moved}'"
    assert list(found.warnings) == [f"read `rft show '{moved}' --gains 5`, not {run.path}-2"]


def test_a_run_that_was_killed_shows_its_best_checkpoint_so_far_and_how_to_go_on(tmp_path):
    run = make_run(tmp_path, lines=LINES[:3], validations={0: BASE, 2: BETTER}, best_step=2, finish=False)
    run.update(status="running")
    found = read_overview(run)
    assert found.entry.status == DIED
    assert found.measured["reward"].difference.mean == 1.0
    assert found.next == f"rft train --resume {run.path}"
    with run.lock():
        assert read_overview(run).entry.status == "running"


def test_a_run_without_any_figures_opens(tmp_path):
    found = read_overview(make_run(tmp_path, finish=False))
    assert (found.measured, found.charts, found.diagnosis, found.steps) == ({}, [], (), 0)
    assert found.no_findings == "no steps to diagnose yet"


def test_a_run_that_has_beaten_nothing_yet_and_one_without_a_diagnosis_say_so(tmp_path):
    from rft_cli.pages.html_report import run_page

    new = read_overview(make_run(tmp_path, "new", validations={0: BASE}, finish=False))
    assert new.headline == "Not finished: nothing has beaten the base yet."
    assert "Nothing stands out" not in run_page(new)
    run = make_run(tmp_path, lines=LINES[:1], validations={0: BASE, 8: BETTER}, best_step=8)
    (run.path / "validation" / "step-000008.jsonl").write_text('{"row": 0, "text": ""}\n')
    found = read_overview(run)
    assert (found.steps_made, found.diagnosed) == ("1 step", False)
    assert any("no diagnosis: a line lacks the key 'id'" in text for text in found.problems)
    assert "Nothing stands out" not in run_page(found)
    assert "There is no diagnosis: a part of the run could not be read." in run_page(found)


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run / "metrics.jsonl").write_bytes(b"\x00\xff garbage\n{\n"),
        lambda run: (run / "validation" / "step-000008.jsonl").write_text('{"row": "x"}\n[]\n'),
        lambda run: (run / "validation" / "step-000000.jsonl").unlink(),
        lambda run: (run / "pilot.json").write_text("{"),
        lambda run: shutil.rmtree(run / "scorer"),
        lambda run: shutil.rmtree(run / "validation"),
        lambda run: shutil.rmtree(run / "rollouts"),
        lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe"),
        lambda run: (run / "validation" / "step-000004.jsonl").mkdir(),
        lambda run: (run / "validation" / "step-99999999999.jsonl").write_text(""),
    ],
)
def test_a_damaged_part_leaves_the_rest(tmp_path, damage):
    from rft_cli.pages.html_report import run_page
    from rft_cli.pages.markdown_report import run_markdown

    run = make_run(tmp_path, lines=LINES, validations={0: BASE, 8: BETTER}, rollouts={0: BASE}, best_step=8)
    damage(run.path)
    found = read_overview(run)
    assert found.measured["reward"].difference.mean == 1.0
    assert len(found.problems) <= 3
    assert "0.000 → 1.000" in run_page(found)
    assert "| reward |" in run_markdown(found)


def test_rewards_and_figures_of_any_size_are_shown(tmp_path):
    from rft_cli.console.run_tables import print_run
    from rft_cli.pages.html_report import run_page
    from rft_cli.pages.markdown_report import run_markdown

    huge = [sample(row, 1e300 if row % 2 else -1e300, components={"form": 1e300}) for row in range(6)]
    lines = [line(step, reward=2e307, kl_per_token=-1e308, entropy=1e308) for step in range(1, 9)]
    run = make_run(tmp_path, lines=lines, validations={0: BASE, 8: huge}, rollouts={0: huge}, best_step=8)
    found = read_overview(run)
    assert found.problems == []
    assert "1e+290" in run_page(found)
    assert run_markdown(found)
    screen = io.StringIO()
    print_run(found, screen)
    assert "1e+290" in screen.getvalue()


@pytest.mark.parametrize("field", ["result", "settings", "hashes", "versions", "warnings"])
@pytest.mark.parametrize("value", [None, {}, {"validation": {"before": 1}, "x": []}])
def test_a_record_with_strange_fields_opens(tmp_path, field, value):
    from rft_cli.pages.html_report import run_page

    run = make_run(tmp_path, lines=LINES, validations={0: BASE, 8: BETTER}, best_step=8)
    run.update(**{field: [] if field == "warnings" else value})
    assert run_page(read_overview(Run.open(run.path)))


def test_the_list_names_unreadable_and_newer_runs_once_and_shows_the_rest(tmp_path):
    make_run(tmp_path, "good", lines=LINES, validations={0: BASE, 8: BETTER}, best_step=8)
    for name, text in (
        ("torn", '{"status": "fin'),
        ("newer", '{"schema_version": 99, "status": "finished"}'),
    ):
        make_run(tmp_path, name, finish=False)
        (tmp_path / name / "run.json").write_text(text)
    (tmp_path / "notes").mkdir()
    found = {entry.name: entry for entry in list_entries(tmp_path)}
    assert list(found) == ["good", "torn", "newer"]
    assert found["good"].reward is not None
    assert found["torn"].status == found["newer"].status == UNREADABLE
    assert "schema version 99" in (found["newer"].problem or "")
    assert list_entries(tmp_path / "nowhere") == []


def test_a_run_deleted_while_it_is_read_is_one_message(tmp_path):
    run = make_run(tmp_path, lines=LINES, validations={0: BASE, 8: BETTER}, best_step=8)
    shutil.rmtree(run.path)
    assert list_entries(tmp_path) == []
    with pytest.raises(UsageError, match="can't be read"):
        read_overview(run)


def test_200_runs_are_listed_in_little_time(tmp_path):
    run = make_run(tmp_path, "r0", lines=LINES, validations={0: BASE, 8: BETTER}, best_step=8)
    for number in range(1, 200):
        (tmp_path / f"r{number}").mkdir()
        for name in ("run.json", "config.yaml"):
            shutil.copy(run.path / name, tmp_path / f"r{number}")
    start = time.process_time()
    assert len(list_entries(tmp_path)) == 200
    assert time.process_time() - start < 0.2


@pytest.mark.slow
def test_a_run_of_1000_steps_and_50000_completions_opens_under_a_second_in_little_memory(tmp_path):
    from rft_cli.pages.html_report import run_page

    path = large_run(tmp_path).path
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run = Run.open(path)
            other = make_run(tmp_path / "other", lines=LINES, validations={0: BASE, 8: BETTER}, best_step=8)
            run_page(read_overview(other))  # what is imported and cached at first use
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start = time.process_time()
            found = read_overview(run)
            took = time.process_time() - start
            page = run_page(found)
            grew = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            size = sum(file.stat().st_size for file in (path / "rollouts").iterdir())
            print(
                f"overview {took:.2f} s, page {len(page) / 1e3:.0f} kB, {grew / 1e3:.0f} MB for {size / 1e6:.0f} MB"
            )
            assert took < 1
            assert len(page.encode()) < 3_000_000
            assert grew < 40_000  # kB, of 50 MB of rollouts
            assert "of 200 validation rows" in page
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
