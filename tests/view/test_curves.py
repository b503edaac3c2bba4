"""Curves: one point a rollout batch, validations with intervals, phases that add up, long jobs thinned."""

import io
from types import SimpleNamespace

from rft_cli.console.run_tables import _print_curves
from rft_cli.console.tables import open_console
from rft_cli.view.curves import MOST_POINTS, Point, charts, thinned
from tests.view.made_runs import line


def test_steps_of_one_rollout_batch_are_one_point_and_their_updates_add_up():
    lines = [
        line(1, completions=64, reward=0.2, rollout_seconds=5.0, grade_seconds=2.0, update_seconds=1.0),
        line(2, completions=64, reward=0.2, rollout_seconds=5.0, grade_seconds=2.0, update_seconds=3.0),
        # Most of this grading was behind the training.
        line(
            3, completions=128, reward=0.6, rollout_seconds=4.0, grade_seconds=9.0, grade_wait_seconds=1.0,
            update_seconds=2.0,
        ),
    ]  # fmt: skip
    found = {chart.name: chart for chart in charts(lines, {}, "ppo")}
    assert [found["reward"].curves[0].steps, found["reward"].curves[0].values] == [[1, 3], [0.2, 0.6]]
    assert found["entropy"].curves[0].steps == [1, 2, 3]
    phases = {curve.label: curve.values for curve in found["seconds"].curves}
    assert phases == {"sampling": [3.0, 3.0], "grading": [2.0, 1.0], "update": [4.0, 2.0]}


def test_the_terminal_cuts_no_label_and_no_unit():
    lines = [line(step, explained_variance=0.5, reward=0.1 * step) for step in (1, 2, 3)]
    screen = io.StringIO()
    _print_curves(
        open_console(screen), SimpleNamespace(charts=charts(lines, {"guard": [Point(0, 0.5)]}, "ppo"))
    )
    shown = screen.getvalue()
    assert "…  " not in shown
    for label in ("Guard ", "KL, k1 (nats/token)", "Cut at the limit (share)", "Critic explains (share)"):
        assert label in shown


def test_validations_stand_beside_training_with_their_intervals():
    validations = {
        "reward": [Point(0, 0.1, 0.0, 0.2), Point(8, 0.5, 0.4, 0.6)],
        "reward/form": [Point(0, 1.0, 1.0, 1.0)],
    }
    found = charts([line(1), line(2)], validations, "grpo")
    reward = found[0]
    assert [curve.source for curve in reward.curves] == ["training", "validation"]
    assert (reward.curves[1].steps, reward.curves[1].low, reward.curves[1].high) == (
        [0, 8],
        [0.0, 0.4],
        [0.2, 0.6],
    )
    assert found[1].title == "form"
    assert next(chart.title for chart in found if chart.name == "kl_per_token") == "KL to the reference, k3"


def test_figures_that_are_no_numbers_are_left_out_and_no_chart_is_empty():
    found = charts([{"step": 1, "reward": None, "entropy": "x", "completions": 4}], {}, "ppo")
    assert found == []
    assert charts([], {}, "ppo") == []


def test_a_long_curve_is_thinned_to_the_means_of_neighbours():
    steps, values = thinned(list(range(1, 6001)), [float(step) for step in range(1, 6001)])
    assert len(steps) == len(values) == MOST_POINTS
    assert (steps[0], values[0], steps[-1], values[-1]) == (10, 5.5, 6000, 5995.5)
    assert thinned([1, 2], [0.5, 0.7]) == ([1, 2], [0.5, 0.7])
