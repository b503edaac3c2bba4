"""Tripwires on plain numbers: when each one trips, what it says, and that good runs trip none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rft_cli.config.training_sections import TripwireConfig
from rft_cli.training.hooks.tripwires import (
    Tripwires,
    growth,
    mean_of,
    pooled_explained_variance,
    without_contrast,
)

GOOD = {
    "reward": 0.5,
    "kl": 2.0,
    "kl_per_token": 0.1,
    "entropy": 0.2,
    "completion_tokens": 20.0,
    "truncated": 0.01,
    "constant_groups": 0.2,
    "explained_variance": 0.4,
    "return_std": 0.3,
}
OTHER = {name: None for name in ("kl", "entropy", "completion_growth", "completion_limit", "truncated")}
OTHER |= {"constant_reward": None, "explained_variance": None}


def batch(**changes: float | None) -> dict[str, float | None]:
    return {**GOOD, **changes}


def wires(algorithm: str = "ppo", limit: int = 60, **settings: Any) -> Tripwires:
    return Tripwires(TripwireConfig.model_validate(settings), algorithm, limit)


def only(name: str, bound: float, **settings: Any) -> dict[str, Any]:
    """Settings with one wire alone, over two batches."""
    return {**OTHER, name: bound, "window": 2, "explained_variance_window": 2, **settings}


def tripped(watch: Tripwires, *batches: dict[str, float | None]) -> list[list[str]]:
    return [[t.name for t in watch.observe(b)] for b in batches]


def flat(found: list[list[str]]) -> list[str]:
    return [name for names in found for name in names]


# formulas


def test_a_mean_is_over_the_last_batches_that_have_the_figure() -> None:
    batches = [{"kl": 9.0}, {"kl": 1.0}, {"kl": None}, {"kl": 2.0}, {}]
    assert mean_of(batches, "kl", 2) == 1.5
    assert mean_of(batches, "kl", 3) == 4.0
    assert mean_of(batches, "kl", 4) is None


def test_growth_is_against_the_first_batches() -> None:
    assert growth([10.0, 30.0], 50.0, 2) == 2.5
    assert growth([10.0], 50.0, 2) is None
    assert growth([10.0, 30.0], None, 2) is None
    assert growth([0.0, 0.0], 50.0, 2) is None


def test_batches_without_contrast_are_counted_from_the_end() -> None:
    some, none, empty = batch(), batch(constant_groups=1.0), batch(reward=None, constant_groups=0.0)
    assert without_contrast([none, some, none, empty, none]) == 3
    assert without_contrast([none, some]) == 0
    assert without_contrast([]) == 0


def test_explained_variance_is_pooled_by_how_far_returns_differ() -> None:
    """(0.5, std 2) and (-99, std 0.2): residuals 0.5 * 4 + 100 * 0.04 = 6 of 4.04; the mean would be -49."""
    pair = [
        {"explained_variance": 0.5, "return_std": 2.0},
        {"explained_variance": -99.0, "return_std": 0.2},
    ]
    assert pooled_explained_variance(pair, 2) == pytest.approx(1 - 6 / 4.04)
    assert pooled_explained_variance(pair, 3) is None
    assert pooled_explained_variance([{"explained_variance": 0.0, "return_std": 0.0}], 1) is None
    assert pooled_explained_variance([*pair, {"explained_variance": None, "return_std": 1.0}], 2) is not None


# wires

TRIPS: list[tuple[str, float, dict[str, float | None], str]] = [
    ("kl", 1.0, {"kl_per_token": 1.5}, "KL (k1) to the reference is 1.5 nats a token: "),
    ("entropy", 0.001, {"entropy": 0.0005}, "entropy is 0.0005 nats a token: "),
    ("completion_limit", 0.9, {"completion_tokens": 54.0}, "completions have 54 tokens on average, of 60 "),
    ("truncated", 0.2, {"truncated": 0.3}, "30% of the completions were cut at 60 tokens "),
    ("constant_reward", 2, {"constant_groups": 1.0}, "no prompt's completions differed in their reward "),
    ("constant_reward", 2, {"reward": None}, "no prompt's completions differed in their reward "),
    (
        "explained_variance",
        -1.0,
        {"explained_variance": -1.5},
        "the critic's explained variance is -1.5 over 2 ",
    ),
]


@pytest.mark.parametrize(("name", "bound", "change", "says"), TRIPS)
def test_a_wire_trips_once_until_the_figure_is_good_again(
    name: str, bound: float, change: dict[str, float | None], says: str
) -> None:
    watch = wires(**only(name, bound))
    bad = batch(**change)
    assert watch.observe(bad) == []  # one batch is not two
    (found,) = watch.observe(bad)
    assert found.name == name
    assert found.text.startswith(says)
    assert found.text.endswith(f"(tripwires.{name} is {bound:g})")
    assert tripped(watch, bad, bad) == [[], []]
    assert tripped(watch, batch(), batch()) == [[], []]
    assert flat(tripped(watch, bad, bad, bad)) == [name]


@pytest.mark.parametrize(
    ("name", "bound", "change"),
    [
        ("kl", 1.0, {"kl_per_token": 1.0}),
        ("entropy", 0.001, {"entropy": 0.001}),
        ("completion_limit", 0.9, {"completion_tokens": 53.9}),
        ("completion_growth", 2.0, {"completion_tokens": 20.0}),
        ("truncated", 0.2, {"truncated": 0.2}),
        ("constant_reward", 2, {"constant_groups": 0.99}),
        ("explained_variance", -1.0, {"explained_variance": -1.0}),
    ],
)
def test_at_its_bound_a_figure_is_good(name: str, bound: float, change: dict[str, float | None]) -> None:
    assert tripped(wires(**only(name, bound)), *[batch(**change)] * 6) == [[]] * 6


def test_completions_that_grow() -> None:
    watch = wires(limit=1000, **only("completion_growth", 2.0))
    lengths = [10.0, 30.0, 40.0, 40.0, 41.0, 200.0]
    found = [watch.observe(batch(completion_tokens=n)) for n in lengths]
    assert [len(f) for f in found] == [0, 0, 0, 0, 1, 0]
    assert found[4][0].text.startswith(
        "completions have 40 tokens on average, 2.0 times as many as at the start: "
    )


@pytest.mark.parametrize(("algorithm", "estimator"), [("grpo", "k3"), ("rloo", "k1")])
def test_the_kl_is_told_with_its_estimator(algorithm: str, estimator: str) -> None:
    watch = wires(algorithm, **only("kl", 1.0))
    line = batch(kl_per_token=3.0)
    watch.observe(line)
    (found,) = watch.observe(line)
    assert found.text.startswith(f"KL ({estimator}) to the reference is 3 nats a token")


def test_the_kl_of_a_whole_completion_is_not_taken_for_a_tokens() -> None:
    assert tripped(wires(**only("kl", 1.0)), *[batch(kl=50.0, kl_per_token=None)] * 3) == [[]] * 3


@pytest.mark.parametrize(("algorithm", "what"), [("ppo", "ppo.entropy_coef"), ("grpo", "ppo.kl_coef")])
def test_only_ppo_is_told_of_its_entropy_bonus(algorithm: str, what: str) -> None:
    watch = wires(algorithm, **only("entropy", 0.1))
    watch.observe(batch(entropy=0.0))
    assert f"raise {what}" in watch.observe(batch(entropy=0.0))[0].text


def test_an_empty_bound_turns_a_wire_off() -> None:
    terrible = batch(
        kl_per_token=9.0, entropy=0.0, completion_tokens=60.0, truncated=1.0, constant_groups=1.0,
        explained_variance=-1e6,
    )  # fmt: skip
    assert flat(tripped(wires(**OTHER), *[batch(), *[terrible] * 40])) == []
    everything = flat(tripped(wires(), *[batch()] * 4, *[terrible] * 20))
    assert sorted(everything) == sorted(OTHER)


def test_figures_that_are_missing_trip_nothing_but_the_reward() -> None:
    nothing = dict.fromkeys(GOOD)
    assert flat(tripped(wires(), *[nothing] * 20)) == ["constant_reward"]


def test_state_goes_through_json_and_the_rest_is_the_same() -> None:
    bad = batch(kl_per_token=2.0, constant_groups=1.0)
    batches = [batch(), *[bad] * 5, *[batch()] * 3, *[bad] * 8]
    whole = tripped(wires(), *batches)
    assert [n for n, names in enumerate(whole) if names] == [3, 10, 16]  # KL 1.525, KL 1.05, eight batches
    for cut in range(len(batches)):
        first = wires()
        tripped(first, *batches[:cut])
        second = wires()
        second.load(json.loads(json.dumps(first.state())))
        assert tripped(second, *batches[cut:]) == whole[cut:]
