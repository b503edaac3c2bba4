"""A run's completions under two graders: means, gains and intervals by step, the order of the steps, changed rows."""

from rft_cli.types import Grade
from rft_cli.view.completions import completion_of
from rft_cli.view.regraded import Regraded, changed_rows, ranking, step_scores
from tests.view.made_runs import sample


def regraded(step, old, new, split="validation"):
    """One completion a row: old and new rewards, None where there is none."""
    found = []
    for row, (before, after) in enumerate(zip(old, new, strict=True)):
        completion = completion_of(sample(row, before, f"text {step}").to_json(), split, step)
        grade = Grade("skipped") if after is None else Grade("graded", after)
        found.append(Regraded(completion, grade))
    return found


GRADED = {
    ("validation", 0): regraded(0, [0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]),
    ("validation", 8): regraded(8, [1.0, 1.0, 1.0, None], [0.0, 0.5, 1.0, 1.0]),
    ("validation", 16): regraded(16, [0.5, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, None]),
}


def test_means_are_over_the_rows_that_both_graders_have():
    base, middle, last = step_scores(GRADED)
    assert (base.old.mean, base.new.mean, base.old.n) == (0.0, 0.5, 4)
    assert (base.old_gain, base.new_gain) == (None, None)
    assert (middle.old.mean, middle.new.mean, middle.old.n) == (1.0, 0.5, 3)
    assert (middle.difference.mean, middle.old_gain.mean, middle.new_gain.mean) == (-0.5, 1.0, 0.0)
    assert middle.difference.ci95[0] < -0.5 < middle.difference.ci95[1]
    assert (last.new.mean, last.new_gain.mean, last.new_gain.n) == (1.0, 0.5, 3)
    assert last.statuses == {"graded": 3, "skipped": 1, "failed": 0}


def test_the_best_step_of_each_grader_and_the_earlier_of_equal_ones():
    order = ranking(step_scores(GRADED))
    assert (order.old, order.new) == ([8, 16, 0], [16, 0, 8])
    assert order.changes
    assert order.to_json()["best"] == {"old": 8, "new": 16, "changes": True}
    same = ranking(step_scores({key: GRADED[key] for key in [("validation", 0), ("validation", 16)]}))
    assert not same.changes


def test_rows_that_get_more_and_less_and_those_that_only_the_old_grader_liked():
    rows = changed_rows(GRADED, "validation", 8)
    assert rows.counts == {"higher": 0, "same": 1, "lower": 2}
    assert [one.completion.row for one in rows.lower] == [0, 1]
    # Row 0 beat the base under the old grader (1 against 0) and is below it under the new one (0 against 0.5).
    assert rows.reversed == 1


def test_a_step_that_the_new_grader_refuses_has_no_figures():
    refused = step_scores({("validation", 0): regraded(0, [1.0, 0.0], [None, None])})
    assert (refused[0].old, refused[0].new, refused[0].difference) == (None, None, None)
    assert ranking(refused).to_json()["best"] == {"old": None, "new": None, "changes": False}


def test_training_rows_are_not_compared_with_the_base():
    one = step_scores(
        {("training", 0): regraded(0, [0.0], [1.0]), ("training", 4): regraded(4, [1.0], [1.0])}
    )
    assert one[1].new_gain is None
