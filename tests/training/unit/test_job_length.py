"""How long a job is and when it validates: rollout batches written out, and the reasons that are printed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rft_cli.config import RunConfig
from rft_cli.report.pilot import Course
from rft_cli.training import job_length
from rft_cli.training.auto import Chosen
from rft_cli.training.job_length import Batches, batches_of, course_of

SAMPLE = Batches(rows=48, prompts=16, group_size=8, steps=4)
"""3 rollout batches of 128 completions an epoch."""
GSM8K = Batches(rows=7473, prompts=16, group_size=8, steps=4)
"""467 rollout batches an epoch, 1,868 steps."""


def test_rows_make_whole_rollout_batches() -> None:
    assert (SAMPLE.completions, SAMPLE.an_epoch) == (128, 3)
    assert (GSM8K.completions, GSM8K.an_epoch, GSM8K.an_epoch * GSM8K.steps) == (128, 467, 1868)
    assert [SAMPLE.begun(n) for n in (1, 3, 4, 46)] == [1, 1, 2, 16]


@pytest.mark.parametrize(
    ("epochs", "most", "plan", "expected"),
    [
        (2, None, SAMPLE, Chosen(6)),
        (1, None, GSM8K, Chosen(467)),
        (2, 20, SAMPLE, Chosen(5)),
        (2, 18, SAMPLE, Chosen(5, "20 steps: optim.max_steps 18, in whole rollout batches of 4")),
        (2, 24, SAMPLE, Chosen(6)),
        (2, 30, SAMPLE, Chosen(6, "optim.max_steps 30 is not reached: 2 epochs are 24 steps")),
        ("auto", 2000, SAMPLE, Chosen(500)),
        ("auto", 1, GSM8K, Chosen(1, "4 steps: optim.max_steps 1, in whole rollout batches of 4")),
        ("auto", None, SAMPLE, Chosen(46, "5,888 completions: 46 rollout batches of 128, 15 epochs")),
        (
            "auto", None, GSM8K,
            Chosen(46, "5,888 completions: 46 rollout batches of 128, 0.099 epochs of 7,473 rows; --n-epochs 1 takes "
                   "all rows"),
        ),
        ("auto", None, Batches(400, 16, 8, 4), Chosen(46, "5,888 completions: 46 rollout batches of 128, 1.8 epochs "
                                                      "of 400 rows")),
        ("auto", None, Batches(4, 4, 2, 4), Chosen(40, "320 completions: 40 rollout batches of 8, 40 epochs")),
        (
            "auto", None, Batches(9000, 1024, 8, 4),
            Chosen(1, "8,192 completions: 1 rollout batches of 8192, 0.12 epochs of 9,000 rows; --n-epochs 1 takes "
                   "all rows"),
        ),
    ],
)  # fmt: skip
def test_length(epochs: int | str, most: int | None, plan: Batches, expected: Chosen[int]) -> None:
    assert job_length.length(epochs, most, plan, wanted=6_000) == expected


@pytest.mark.parametrize(
    ("completions", "epochs", "samples", "plan", "batches", "expected"),
    [
        # 600 / 128 = 4.7
        ("auto", "auto", 150, SAMPLE, 46, Chosen(5, "validation every 640 completions: about 600")),
        ("auto", "auto", 150, SAMPLE, 3, Chosen(5, "validation at the end alone, after 384 completions: about 600")),
        # 2 x 2,000 / 128 = 31.25
        ("auto", "auto", 2000, SAMPLE, 46, Chosen(31, "validation every 3,968 completions: twice the 2,000 of a "
                                                  "validation")),
        # 467 x 128 / 20 = 2,989; / 128 = 23.4
        ("auto", "auto", 150, GSM8K, 467, Chosen(23, "validation every 2,944 completions: about 20 validations a "
                                                 "job")),
        # a rollout batch is more than 600
        ("auto", "auto", 150, Batches(9000, 128, 8, 4), 10, Chosen(1, "validation every 1,024 completions: about "
                                                                   "600")),
        (640, "auto", 150, SAMPLE, 46, Chosen(5)),
        (600, "auto", 150, SAMPLE, 46, Chosen(5, "validation every 640 completions: 600 in whole rollout batches of "
                                              "128")),
        (1, "auto", 150, SAMPLE, 46, Chosen(1, "validation every 128 completions: 1 in whole rollout batches of "
                                            "128")),
        ("auto", 2, 2000, SAMPLE, 46, Chosen(6)),
    ],
)  # fmt: skip
def test_validate_every(
    completions: int | str,
    epochs: int | str,
    samples: int,
    plan: Batches,
    batches: int,
    expected: Chosen[int],
) -> None:
    assert job_length.validate_every(completions, epochs, samples, plan, batches) == expected


def test_the_course_of_a_job() -> None:
    """2 epochs of 3 batches; validations at 0, 3 and 6 batches; test rows before and after."""
    config = RunConfig.model_validate({"optim": {"n_epochs": 2}, "validation": {"every_epochs": 1}})
    rows = {
        name: SimpleNamespace(examples=[None] * n)
        for name, n in (("train", 48), ("validation", 20), ("test", 5))
    }
    job: Any = SimpleNamespace(config=config, **rows)
    passes = config.ppo.passes
    plan = batches_of(config, 48, config.rollout.prompts_per_batch, 1)
    assert course_of(job, plan, batches=2 * plan.an_epoch, every=plan.an_epoch) == Course(
        batch=128, steps=passes * config.ppo.minibatches, passes=passes, batches=6, validated=3 * 20 + 2 * 5
    )
