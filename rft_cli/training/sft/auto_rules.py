"""The `auto` rules of supervised fine-tuning, in rows and optimizer steps: how fast, how long, validated how often."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rft_cli.config import RunConfig
from rft_cli.training import auto
from rft_cli.training.auto import Chosen, RateLaw

BATCHES = (16, 8, 4)
STEPS_A_PASS = 6
"""Steps that a pass over few rows should have at least."""
ROWS_WANTED = 2_000
"""Rows of a job whose length is `auto`, counted once a pass."""
RATES = RateLaw(full=1e-3, full_power=0.52, lora=5e-4, lora_power=0.22, lowest=1e-4)
FEWEST_EPOCHS, MOST_EPOCHS = 2, 10
FEWEST_VALIDATIONS, MOST_VALIDATIONS = 4, 10


@dataclass(frozen=True, slots=True)
class Steps:
    """How the training rows fall into optimizer steps of `batch` rows; the last step of a pass takes what is left."""

    rows: int
    batch: int

    @property
    def an_epoch(self) -> int:
        return math.ceil(self.rows / self.batch)


def batch_size(setting: int | str, rows: int, world_size: int) -> Chosen[int]:
    """16 rows a step; of few rows 8 or 4, so that a pass is some steps. A multiple of the processes."""
    if not isinstance(setting, str):
        return Chosen(setting)
    wanted = next((size for size in BATCHES if size * STEPS_A_PASS <= rows), BATCHES[-1])
    value = max(world_size, wanted // world_size * world_size)
    why = f" of the {rows} of the training file" if wanted < BATCHES[0] else ""
    return Chosen(value, "" if value == BATCHES[0] else f"{value} rows a step{why}")


def learning_rate(setting: float | str, parameters: int, lora: bool) -> Chosen[float]:
    """Full fine-tuning: 1e-3 at 1 M parameters, falling with the 0.52th power to 1e-5 at 7 B. LoRA: 5e-4 at 135 M,
    falling with the 0.22th power to 2e-4 at 8 B; at most 1e-3, at least 1e-4.
    """
    return auto.learning_rate(setting, parameters, lora, RATES, "sft, ")


def length(n_epochs: int | str, max_steps: int | None, plan: Steps) -> Chosen[int]:
    """Optimizer steps of the whole job: so many passes, ended by `max_steps` where that comes first.

    Passes left at auto end with `max_steps`, or are as many as make about 2,000 rows, at least 2 and at most 10.
    """
    if isinstance(n_epochs, str):
        if max_steps is not None:
            return Chosen(max_steps)
        epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(ROWS_WANTED / plan.rows)))
        steps = epochs * plan.an_epoch
        return Chosen(steps, f"{epochs} epochs of {plan.rows:,} rows: {steps:,} steps of {plan.batch}")
    steps = n_epochs * plan.an_epoch
    if max_steps is None or max_steps <= steps:
        return Chosen(steps if max_steps is None else max_steps)
    return Chosen(steps, f"optim.max_steps {max_steps} is not reached: {n_epochs} epochs are {steps} steps")


def validate_every(
    every_rows: int | str, every_epochs: int | str, samples: int, plan: Steps, steps: int
) -> Chosen[int]:
    """Optimizer steps between validations, of which each takes `samples` completions; the last step is validated too.

    auto: 10 validations a job, or fewer, at least 4, where sampling would take more rows than twice those trained on.
    """
    if not isinstance(every_rows, str):
        return Chosen(max(1, round(every_rows / plan.batch)))
    if not isinstance(every_epochs, str):
        return Chosen(every_epochs * plan.an_epoch)
    wanted = steps * plan.batch // (2 * samples)
    count = min(MOST_VALIDATIONS, max(FEWEST_VALIDATIONS, wanted))
    value = max(1, math.ceil(steps / count))
    return Chosen(value, f"validation every {value} steps: about {math.ceil(steps / value)} a job")


def steps_of(config: RunConfig, rows: int, world_size: int) -> Steps:
    """The steps that so many processes make of the training rows."""
    return Steps(rows, batch_size(config.sft.batch_size, rows, world_size).value)
