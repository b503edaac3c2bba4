"""What the journal measures of a rollout batch's grades."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from accelerate import Accelerator

from rft_cli.config.training_sections import TripwireConfig
from rft_cli.runs import Run
from rft_cli.training.hooks.journal import Journal
from rft_cli.training.hooks.tripwires import TripwireMonitor, Tripwires
from rft_cli.training.rollouts.rewards import GradedBatch
from rft_cli.types import Grade, Sample


def sample(**components: float) -> Sample:
    return Sample(0, "1", "p", "c", 1, False, Grade("graded", 1.0, components))


def journal_of(run: Run) -> Journal:
    alarms = TripwireMonitor(Tripwires(TripwireConfig(), "ppo", 60), "warn", run, lambda event: None, 0)
    return Journal(run, lambda event: None, Accelerator(cpu=True), 0.1, alarms)


def test_means_of_components_are_of_the_first_100_names(tmp_path: Path) -> None:
    """Names that come later, in any batch, are measured nowhere; those that were there go on."""
    run = Run.create(tmp_path, "r", config_yaml="", info={"model": "m"})
    journal = journal_of(run)
    journal.on_graded(GradedBatch([sample(**{f"n{number:02}": 1.0}) for number in range(60)]))
    journal.on_graded(GradedBatch([sample(n00=0.25, **{f"p{number:02}": 0.5}) for number in range(60)]))
    again = journal_of(run)
    again.restore(journal.to_json())
    again.on_graded(GradedBatch([sample(p00=0.75, q00=1.0)]))
    measured = json.loads(again.to_json())["per_rollout"]
    rewards = {name.removeprefix("reward/"): value for name, value in measured.items() if "reward/" in name}
    assert set(rewards) == {f"n{n:02}" for n in range(60)} | {f"p{n:02}" for n in range(40)}
    assert (rewards["n00"], rewards["n01"], rewards["p00"], rewards["p39"]) == (0.25, 1.0, 0.75, 0.5)


def of_groups(*groups: tuple[float | None, ...]) -> GradedBatch:
    return GradedBatch(
        [
            Sample(row, "1", "p", "c", 1, False, Grade("skipped") if r is None else Grade("graded", r))
            for row, rewards in enumerate(groups)
            for r in rewards
        ]
    )


@pytest.mark.parametrize(
    ("batch", "share"),
    [
        (of_groups((0.0, 0.0), (None, None)), 1.0),
        (of_groups((0.5, 0.5), (0.0, 1.0), (0.0, None)), 0.5),
        (of_groups((None, 1.0), (None, None)), None),
    ],
)
def test_groups_with_fewer_than_two_grades_are_not_counted(
    tmp_path: Path, batch: GradedBatch, share: float | None
) -> None:
    run = Run.create(tmp_path, "r", config_yaml="", info={"model": "m"})
    journal = journal_of(run)
    journal.on_graded(batch)
    assert json.loads(journal.to_json())["per_rollout"]["constant_groups"] == share
