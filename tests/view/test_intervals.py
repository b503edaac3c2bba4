"""Many intervals at once are the intervals of a job's result."""

import random

import pytest

from rft_cli.report.estimates import mean_ci
from rft_cli.view.intervals import mean_cis


@pytest.mark.parametrize("rows", [1, 2, 7, 150])
def test_each_column_has_the_interval_that_a_result_has(rows):
    random.seed(rows)
    columns = [[random.random() for _ in range(rows)] for _ in range(3)] + [[0.5] * rows]
    for column, found in zip(columns, mean_cis(columns), strict=True):
        expected = mean_ci(column)
        assert found is not None
        assert found.n == rows
        assert found.mean == pytest.approx(expected.mean, abs=1e-12)
        assert found.ci95 == pytest.approx(expected.ci95, abs=1e-12)


def test_columns_of_different_lengths_and_empty_ones_keep_their_places():
    found = mean_cis([[], [1.0, 3.0], [2.0], [0.0, 0.0, 3.0]])
    assert found[0] is None
    assert [estimate.mean for estimate in found[1:] if estimate is not None] == [2.0, 2.0, 1.0]
