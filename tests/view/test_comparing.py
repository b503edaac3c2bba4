"""Runs compared: paired on common rows, what differs, what makes the comparison less than it looks."""

from dataclasses import replace
from io import StringIO

import pytest

from rft_cli.console.run_tables import print_compared, print_runs
from rft_cli.errors import UsageError
from rft_cli.pages.markdown_report import run_markdown
from rft_cli.types import Grade
from rft_cli.view.comparing import compare_runs
from rft_cli.view.overview import read_overview
from tests.view.made_runs import line, make_run, sample

LINES = [line(step) for step in range(1, 5)]


def made(folder, name, rewards, **info):
    base = [sample(row, 0.0) for row in range(len(rewards))]
    after = [sample(row, reward, components={"form": 1.0}) for row, reward in enumerate(rewards)]
    return read_overview(
        make_run(folder, name, lines=LINES, validations={0: base, 4: after}, best_step=4, **info)
    )


def test_the_difference_is_paired_over_the_rows_that_both_runs_graded(tmp_path):
    found = compare_runs(
        [made(tmp_path, "a", [0.2, 0.4, 0.6, 0.8]), made(tmp_path, "b", [0.3, 0.5, 0.7, None]), ]
    )  # fmt: skip
    reward = found.differences[0]
    assert (reward.run, reward.figure, reward.rows) == ("b", "reward", 3)
    assert reward.first.mean == pytest.approx(0.4)
    assert reward.difference.mean == pytest.approx(0.1)
    assert reward.difference.ci95 == pytest.approx((0.1, 0.1))
    assert found.verdicts == ["b is better than a by 0.100 [+0.100, +0.100] on 3 rows."]
    assert found.differences[1].figure == "form"


def test_what_is_worse_is_worse_by_a_positive_interval(tmp_path):
    found = compare_runs([made(tmp_path, "a", [0.5, 0.6, 0.7]), made(tmp_path, "b", [0.4, 0.3, 0.4])])
    low, high = found.differences[0].difference.ci95
    assert found.verdicts == [f"b is worse than a by 0.233 [{-high:+.3f}, {-low:+.3f}] on 3 rows."]
    assert high < 0


def test_an_interval_around_0_says_that_runs_cannot_be_told_apart(tmp_path):
    found = compare_runs([made(tmp_path, "a", [0.0, 1.0, 0.5]), made(tmp_path, "b", [1.0, 0.0, 0.5])])
    assert found.verdicts[0].startswith("b and a can't be told apart")


def test_settings_that_differ_and_what_to_mind(tmp_path):
    one = made(
        tmp_path, "a", [0.1], settings={"optim.learning_rate": 1e-5, "seed": 0}, hashes={"grader": "x"}
    )
    two = made(
        tmp_path, "b", [0.1], settings={"optim.learning_rate": 3e-5, "seed": 0}, hashes={"grader": "y"}
    )
    found = compare_runs([one, two])
    assert found.settings == {"optim.learning_rate": [1e-5, 3e-5]}
    assert replace(found, settings={"a": [None, True, "x", [1]]}).setting_texts() == {
        "a": ["null", "true", "x", "[1]"]
    }
    assert found.notes == ["the graders differ: rewards of different graders have different scales"]


@pytest.mark.parametrize("width", ["60", "200"])
def test_names_and_paths_of_settings_that_differ_stay_whole(tmp_path, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    path = "/data/of/a/team/with/long/names/validation-rows.jsonl"
    settings = [{"rollout.max_completion_tokens": 40, "data.validation": name} for name in ("v.jsonl", path)]
    runs = [made(tmp_path, name, [0.1], settings=own) for name, own in zip("ab", settings, strict=True)]
    out = StringIO()
    print_compared(compare_runs(runs), out)
    said = out.getvalue().partition("Settings that differ")[2]
    assert path in said
    assert "data.validation" in said


def test_runs_without_common_rows_are_said_to_have_none(tmp_path):
    one = made(tmp_path, "a", [0.1])
    other = [sample(0, 0.5, prompt="another prompt")]
    two = read_overview(make_run(tmp_path, "b", lines=LINES, validations={0: other, 4: other}, best_step=4))
    found = compare_runs([one, two])
    assert (found.differences, found.verdicts) == ([], [])
    assert found.notes == ["b has no graded row in common with a"]


def test_a_doubtful_gain_is_marked_and_the_guard_is_compared(tmp_path):
    def guarded(name, guards):
        base = [replace(sample(row, 0.0), guard=Grade("graded", 0.5)) for row in range(4)]
        after = [replace(sample(row, 1.0), guard=Grade("graded", value)) for row, value in enumerate(guards)]
        validations = {0: base, 4: after}
        return read_overview(make_run(tmp_path, name, lines=LINES, validations=validations, best_step=4))

    found = compare_runs([guarded("a", [0.6] * 4), guarded("b", [0.1] * 4)])
    assert [(f.figure, round(f.difference.mean, 3)) for f in found.differences] == [
        ("reward", 0.0),
        ("guard", -0.5),
    ]
    assert any(note.startswith("b: the guard fell, so its reward is no measure") for note in found.notes)
    assert found.runs[1].entry.doubt == "the guard fell"
    assert found.to_json()["runs"][1]["guard"]["validation"]["alarm"] is not None
    assert "**Whether the scorer was fooled**" in run_markdown(found.runs[1])
    console = StringIO()
    print_runs([run.entry for run in found.runs], "runs", console)
    assert console.getvalue().count("(the guard fell)") == 1


@pytest.mark.parametrize("count", [1, 6])
def test_two_to_five_runs_are_compared(tmp_path, count):
    run = made(tmp_path, "a", [0.1])
    with pytest.raises(UsageError, match=f"^{count} runs? given"):
        compare_runs([run] * count)
