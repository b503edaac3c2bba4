"""Lists of rows and rollouts: filtered, ordered, searched, a page at a time; one row through many steps."""

import json

import pytest

from rft_cli.view.progress import progress_of
from rft_cli.view.reading import ReadProblems
from rft_cli.view.rollout_pages import Wanted, rollout_page
from rft_cli.view.row_history import row_history
from rft_cli.view.row_list import chosen_rows, read_rows, rewards_of, sampled_ends
from rft_cli.view.visible import ending
from tests.view.made_runs import line, make_run, sample


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Four rows at steps 0 and 8; four rollout batches of five prompts in groups of two."""
    before = [sample(row, reward, f"Alpha {row}") for row, reward in enumerate((0.0, 0.5, 1.0, 0.25))]
    after = [sample(row, reward, f"beta {row}") for row, reward in enumerate((1.0, 0.5, 0.25, None))]
    rollouts = {
        step: [
            sample(row, (row + place) / 10, f"s{step} r{row} Größe") for row in range(5) for place in (0, 1)
        ]
        for step in (0, 4, 8, 12)
    }
    rollouts[4][3] = sample(1, None, "broken")
    return make_run(
        tmp_path_factory.mktemp("runs"), lines=[line(8)], validations={0: before, 8: after}, rollouts=rollouts,
        best_step=8,
    ).path  # fmt: skip


def ids(rows):
    return [row.row for row in rows]


def test_rows_are_filtered_ordered_and_searched(run):
    rows = read_rows(sampled_ends(run, "validation", 8), ReadProblems())
    assert [row.gain for row in rows] == [1.0, 0.0, -0.75, None]
    assert rewards_of(rows) == ([0.0, 0.5, 1.0, 0.25], [1.0, 0.5, 0.25])
    assert ids(chosen_rows(rows, "all", "gain")) == [0, 1, 2, 3]
    assert ids(chosen_rows(rows, "all", "loss")) == [2, 1, 0, 3]
    assert ids(chosen_rows(rows, "all", "lowest")) == [2, 1, 0, 3]
    kinds = {
        kind: ids(chosen_rows(rows, kind, "file")) for kind in ("gained", "lost", "same", "ungraded", "cut")
    }
    assert kinds == {"gained": [0], "lost": [2], "same": [1], "ungraded": [3], "cut": []}
    for words, found in (
        ("alpha 2", [2]),
        ("BETA", [0, 1, 2, 3]),
        ("prompt 1", [1]),
        ("line-4", [3]),
        ("zz", []),
    ):
        searched = read_rows(sampled_ends(run, "validation", 8), ReadProblems(), words)
        assert ids(chosen_rows(searched, "all", "file")) == found


def test_test_rows_before_the_end_have_no_after(tmp_path):
    run = make_run(tmp_path, finish=False, best_step=4)
    run.write_samples("test-before", [sample(0, 0.5)])
    assert [
        (row.before, row.after) for row in read_rows(sampled_ends(run.path, "test", 4), ReadProblems())
    ] == [(0.5, None)]


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_pages_of_rollouts_join_to_all_of_them(run, most):
    wanted, place, seen = Wanted(), "", []
    while place is not None:
        page = rollout_page(run, wanted, place, most, ReadProblems())
        assert len(page.groups) <= most
        seen += [(group.step, group.row, group.count) for group in page.groups]
        place = page.following
    assert seen == [(step, row, 2) for step in (12, 8, 4, 0) for row in range(5)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(step=8), [(8, row) for row in range(5)]),
        (Wanted("ungraded"), [(4, 1)]),
        (Wanted("cut"), []),
        (Wanted(search="S8 R2 grö"), [(8, 2)]),
        (Wanted(search="s4 r3"), [(4, 3)]),
        (Wanted(search='"id"'), []),
        (Wanted("ungraded", "broken", 4), [(4, 1)]),
    ],
)
def test_rollouts_are_filtered_and_searched(run, wanted, found):
    page = rollout_page(run, wanted, "", 50, ReadProblems())
    assert [(group.step, group.row) for group in page.groups] == found


def test_a_group_counts_what_has_no_grade(run):
    (group,) = rollout_page(run, Wanted(step=4), "", 50, ReadProblems()).groups[1:2]
    assert (group.count, group.ungraded, group.mean, group.low, group.high) == (2, 1, 0.1, 0.1, 0.1)


def test_a_row_of_many_steps_keeps_its_ends_and_the_best(tmp_path):
    group = [sample(3, place / 8, f"place {place}") for place in range(8)]
    run = make_run(
        tmp_path, rollouts={step: [*group, sample(30, 0.5)] for step in range(0, 400, 4)}, finish=False
    )
    found = row_history(run.path, "training", 3, 200, ReadProblems())
    assert found.total == 800
    assert len(found.completions) <= 62
    steps = [completion.step for completion in found.completions]
    assert steps == sorted(steps)
    assert {0, 200, 396} <= set(steps)
    assert {completion.text for completion in found.completions} == {"place 0", "place 7"}
    few = row_history(run.path, "training", 3, 200, ReadProblems(), most=800)
    assert len(few.completions) == 800


def test_progress_is_the_last_whole_line(tmp_path):
    run = make_run(tmp_path, lines=[line(1), line(2, reward=0.75)], finish=False)
    assert progress_of(run.path, {"settings": {"optim.n_epochs": 0.5}}).share == pytest.approx(0.4)
    with run.metrics_path.open("a") as file:
        file.write(json.dumps(line(3))[:40])
    found = progress_of(run.path, {"settings": {"optim.n_epochs": "auto"}})
    assert (found.step, found.epoch, found.reward, found.share) == (2, 0.2, 0.75, None)
    run.metrics_path.write_text("x" * 100_000)
    assert progress_of(run.path, {}) is None


def test_the_end_of_a_prompt_is_what_tells_it_apart():
    assert ending("short\nprompt") == "short prompt"
    assert ending("a" * 500 + " which one?", 10) == "…which one?"
