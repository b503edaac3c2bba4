"""Estimates against numbers computed by hand or by a plain numpy bootstrap written here."""

import numpy as np
import pytest

from rft_cli.errors import RunFailed
from rft_cli.report.estimates import (
    compare,
    compare_components,
    component_names,
    count_statuses,
    estimate,
    mean_ci,
    row_means,
)
from rft_cli.types import Grade, GradeError, Sample


def sample(row, reward, status="graded", **components):
    error = GradeError("raised", "ValueError: no") if status == "failed" else None
    grade = Grade(status, reward if status == "graded" else None, components, error)
    return Sample(row, f"f:{row}", "p", "c", 1, False, grade)


def test_mean_ci_of_coin_flips_is_the_normal_interval():
    # 100 rows, half of them 1: the standard error of the mean is 0.5 / 10 = 0.05, so 0.5 ± 1.96 · 0.05.
    found = mean_ci([0.0, 1.0] * 50)
    assert found.mean == 0.5
    assert found.n == 100
    assert found.ci95[0] == pytest.approx(0.402, abs=0.012)
    assert found.ci95[1] == pytest.approx(0.598, abs=0.012)


def test_mean_ci_of_three_rows_is_the_exact_bootstrap_distribution():
    # Of the 27 equally likely resamples of (0, 0, 3), 8 have mean 0 and one has mean 3 (4 %): 0 and 3 exactly.
    assert mean_ci([0.0, 0.0, 3.0]).ci95 == (0.0, 3.0)


def test_mean_ci_agrees_with_a_plain_bootstrap_on_skewed_data():
    values = np.random.default_rng(7).exponential(size=60)
    rng = np.random.default_rng(1)
    means = [rng.choice(values, 60).mean() for _ in range(10_000)]
    found = mean_ci(list(values))
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.ci95 == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.015)


def test_mean_ci_gives_the_same_answer_twice_and_covers_large_inputs():
    values = [float(i % 7) for i in range(3_000)]
    first = mean_ci(values)
    assert first == mean_ci(values)
    assert first.ci95[0] < first.mean < first.ci95[1]
    assert first.ci95[1] - first.ci95[0] == pytest.approx(2 * 1.96 * 2 / 3_000**0.5, rel=0.05)


def test_one_row_and_constant_rows_have_no_width():
    assert mean_ci([0.25]).ci95 == (0.25, 0.25)
    found = mean_ci([0.1] * 7)
    assert (found.mean, found.ci95, found.n) == (0.1, (0.1, 0.1), 7)


def test_no_rows_is_an_error():
    with pytest.raises(ValueError, match="no rows"):
        mean_ci([])


def test_row_means_average_a_row_first_and_leave_out_what_was_not_graded():
    samples = [
        sample(0, 1.0),
        sample(0, 0.0),
        sample(0, 0.2),
        sample(1, None, "failed"),
        sample(2, None, "skipped"),
    ]
    samples += [sample(3, 0.0), sample(3, None, "failed")]
    assert row_means(samples) == pytest.approx({0: 0.4, 3: 0.0})
    assert count_statuses(samples) == {"graded": 4, "skipped": 1, "failed": 2}
    # Rows weigh the same: (0.4 + 0) / 2, not the mean of the four completions.
    assert estimate(samples).mean == pytest.approx(0.2)


def test_components_are_read_where_they_are():
    samples = [sample(0, 1.0, json=1.0), sample(1, 0.0, json=0.0, team=1.0), sample(2, 0.5)]
    assert component_names(samples) == ["json", "team"]
    assert row_means(samples, "json") == {0: 1.0, 1: 0.0}
    assert row_means(samples, "team") == {1: 1.0}


def test_compare_pairs_the_rows_graded_in_both():
    before = [sample(0, 0.0), sample(1, 0.5), sample(2, 0.9), sample(3, None, "failed")]
    after = [sample(0, 0.5), sample(1, 1.0), sample(2, None, "skipped"), sample(3, 1.0)]
    found = compare(before, after)
    assert (found.before.mean, found.after.mean, found.difference.mean) == (0.25, 0.75, 0.5)
    # Both rows gained 0.5: paired, the difference is certain though before and after are not.
    assert found.difference.ci95 == (0.5, 0.5)
    assert found.before.ci95 == (0.0, 0.5)
    assert found.difference.n == 2


def test_compare_components_keeps_those_of_both_sides():
    before = [sample(0, 0.0, json=0.0, old=1.0)]
    after = [sample(0, 0.0, json=1.0, new=1.0)]
    found = compare_components(before, after)
    assert list(found) == ["json"]
    assert found["json"].difference.mean == 1.0


def test_nothing_graded_says_why():
    failed = [sample(0, None, "failed"), sample(1, None, "skipped")]
    with pytest.raises(RunFailed, match="1 skipped, 1 failed of 2; the first error: ValueError: no"):
        estimate(failed)
    with pytest.raises(RunFailed, match="no completion has a reward"):
        compare([sample(0, 1.0)], failed)
    with pytest.raises(RunFailed, match="component 'json'"):
        estimate([sample(0, 1.0)], "json")
