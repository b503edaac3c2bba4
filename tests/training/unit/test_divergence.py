"""The count of skipped steps, and what people are told, without a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from rft_cli.errors import RunFailed
from rft_cli.runs import Run
from rft_cli.training.hooks.divergence import Diverged, Skips, explain_divergence, how_to_go_on


def test_skips_are_counted_in_all_and_in_a_row() -> None:
    skips = Skips()
    assert [skips.record(w) for w in ([], ["loss"], ["loss", "gradient"], [], ["gradient"])] == [
        False, True, True, False, True,
    ]  # fmt: skip
    assert skips == Skips(total=3, in_a_row=1, what="gradient")
    assert skips.failure(2, step=5) is None
    skips.record(["loss", "gradient"])
    failure = skips.failure(2, step=6)
    assert failure is not None
    assert failure.message == (
        "training diverged: the loss and gradient were not finite in 2 steps in a row, the last at step 6"
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "r", config_yaml="", info={})


def test_divergence_is_told_with_the_last_checkpoint_and_the_command(run: Run) -> None:
    for step in (3, 12):
        partial = run.begin_checkpoint(step)
        (partial / "weights").write_text("1")
        run.commit_checkpoint(step, partial)
    with pytest.raises(RunFailed) as failure, explain_divergence(run, 1e-3, 3e-3):
        raise Diverged("training diverged: so it did")
    assert failure.value.exit_code == 3
    assert failure.value.message == "training diverged: so it did"
    assert failure.value.fix == (
        "lower optim.learning_rate (it was 0.001) or raise ppo.kl_coef in a new run; the last good checkpoint is "
        f"{run.path}/checkpoints/step-12, and `rft train --resume {run.path}` resumes from it"
    )


def test_a_critics_divergence_names_its_own_rate(run: Run) -> None:
    with pytest.raises(RunFailed) as failure, explain_divergence(run, 1e-3, 3e-3):
        raise Diverged("training diverged: it did", of_critic=True)
    assert failure.value.fix == (
        "lower ppo.critic_learning_rate (it was 0.003) in a new run; this one has no checkpoint, "
        f"and `rft train --resume {run.path}` starts it over"
    )


@pytest.mark.parametrize("other", [RuntimeError("out of memory"), RunFailed("too many failures", "mend it")])
def test_other_failures_pass_as_they_are(other: Exception, run: Run) -> None:
    with pytest.raises(type(other)) as failure, explain_divergence(run, 1e-3, 3e-3):
        raise other
    assert failure.value is other


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(run: Run) -> None:
    assert (
        how_to_go_on(run) == f"this one has no checkpoint, and `rft train --resume {run.path}` starts it over"
    )
