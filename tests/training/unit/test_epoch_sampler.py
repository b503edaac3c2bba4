"""The order of prompts is a pure function of seed and epoch."""

from __future__ import annotations

from types import SimpleNamespace

from rft_cli.training.rollouts.base_trainer import EpochSampler


def order(epoch: float | None, seed: int = 5, before: int = 0, shuffle: bool = True) -> list[int]:
    """One pass over 10 rows at `epoch`, after `before` other passes have begun."""
    sampler = EpochSampler(range(10), mini_repeat_count=1, batch_size=2, shuffle=shuffle, seed=seed)
    sampler.trainer = SimpleNamespace(state=SimpleNamespace(epoch=0.0))
    for other in range(before):
        sampler.trainer.state.epoch = float(other)
        for _ in zip(range(3), sampler, strict=False):
            pass
    sampler.trainer.state.epoch = epoch
    return list(sampler)


def test_an_epoch_has_every_row_once() -> None:
    assert sorted(order(0.0)) == list(range(10))


def test_the_same_epoch_comes_in_the_same_order_whatever_came_before() -> None:
    assert order(2.0) == order(2.0, before=1) == order(2.0, before=2)


def test_a_resumed_epoch_starts_over_in_its_own_order() -> None:
    assert order(1.0) == order(1.4) == order(1.96)  # what was done of it is skipped by the trainer
    assert order(None) == order(0.0)


def test_epochs_and_seeds_differ() -> None:
    orders = [tuple(order(epoch, seed)) for epoch in (0.0, 1.0, 2.0) for seed in (0, 1, 2)]
    assert len(set(orders)) == 9


def test_without_shuffling_the_order_is_the_files() -> None:
    assert order(3.0, shuffle=False) == list(range(10))


def test_repeats_stand_together() -> None:
    sampler = EpochSampler(range(4), mini_repeat_count=2, batch_size=2, repeat_count=2, shuffle=True, seed=0)
    sampler.trainer = SimpleNamespace(state=SimpleNamespace(epoch=0.0))
    a, b, c, d = dict.fromkeys(sampler)
    assert list(sampler) == [a, a, b, b] * 2 + [c, c, d, d] * 2
