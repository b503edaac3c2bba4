"""A rollout batch's rows follow from its number: those of TRL's sampler in their order, for each process its part."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rft_cli.training.rollouts.base_trainer import EpochSampler
from rft_cli.training.rollouts.row_order import RowOrder


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_those_of_trls_sampler(shuffle: bool) -> None:
    """10 rows in batches of 3 prompts x 2: three batches an epoch, one row left out."""
    order = RowOrder(rows=10, prompts=3, group_size=2, seed=7, shuffle=shuffle)
    sampler = EpochSampler(range(10), mini_repeat_count=2, batch_size=3, shuffle=shuffle, seed=7)
    for epoch in (0, 1, 2):
        sampler.trainer = SimpleNamespace(state=SimpleNamespace(epoch=float(epoch)))
        batches = [order.of_batch(3 * epoch + place) for place in range(3)]
        assert [row for batch in batches for row in batch] == list(sampler)


def test_each_process_has_its_part_and_groups_stay_whole() -> None:
    whole = RowOrder(rows=12, prompts=4, group_size=3, seed=0).of_batch(4)
    parts = [
        RowOrder(rows=12, prompts=4, group_size=3, seed=0, process=process, processes=2).of_batch(4)
        for process in (0, 1)
    ]
    assert parts[0] + parts[1] == whole
    assert whole[0] == whole[1] == whole[2] != whole[3]


def test_a_batch_does_not_depend_on_those_before_it() -> None:
    order = RowOrder(rows=50, prompts=5, group_size=2, seed=3)
    assert order.of_batch(23) == RowOrder(rows=50, prompts=5, group_size=2, seed=3).of_batch(23)
    assert len({tuple(order.of_batch(number)) for number in range(20)}) == 20
