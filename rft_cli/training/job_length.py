"""How long a job is and when it validates: `auto` rules that count in whole rollout batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rft_cli.config import RunConfig
from rft_cli.job import Job
from rft_cli.report.pilot import Course
from rft_cli.training.auto import MOST_EPOCHS, Chosen, steps_a_pass

VALIDATE_EVERY = 600
"""Completions between validations."""
MOST_VALIDATIONS = 20


@dataclass(frozen=True, slots=True)
class Batches:
    """How the training rows fall into rollout batches of `prompts` x `group_size` completions and `steps` steps."""

    rows: int
    prompts: int
    group_size: int
    steps: int

    @property
    def completions(self) -> int:
        """Completions of one rollout batch."""
        return self.prompts * self.group_size

    @property
    def an_epoch(self) -> int:
        """Rollout batches of one pass over the rows; rows that do not fill a batch are left out of the pass."""
        return self.rows // self.prompts

    def begun(self, batches: int) -> int:
        """Epochs that a job of so many rollout batches begins."""
        return math.ceil(batches / self.an_epoch)


def length(n_epochs: int | str, max_steps: int | None, plan: Batches, wanted: int) -> Chosen[int]:
    """Rollout batches of the whole job.

    So many epochs, ended by `max_steps` where that comes first (rounded up to the end of its rollout batch). Epochs
    left at auto end with `max_steps`, or else with as many batches as fit into `wanted` completions, at least one and
    at most those of MOST_EPOCHS.
    """
    asked = None if max_steps is None else math.ceil(max_steps / plan.steps)
    if not isinstance(n_epochs, str):
        whole = n_epochs * plan.an_epoch
        if asked is None or asked > whole:
            left = f"optim.max_steps {max_steps} is not reached: {n_epochs} epochs are {whole * plan.steps} steps"
            return Chosen(whole, "" if asked is None else left)
    if asked is not None:
        rounded = f"{asked * plan.steps} steps: optim.max_steps {max_steps}, in whole rollout batches of {plan.steps}"
        return Chosen(asked, "" if asked * plan.steps == max_steps else rounded)
    batches = min(MOST_EPOCHS * plan.an_epoch, max(1, wanted // plan.completions))
    epochs = batches / plan.an_epoch
    why = f"{epochs:.2g} epochs of {plan.rows:,} rows" if epochs < 10 else f"{epochs:.0f} epochs"
    more = "; --n-epochs 1 takes all rows" if epochs < 1 else ""
    return Chosen(
        batches,
        f"{batches * plan.completions:,} completions: {batches:,} rollout batches of {plan.completions}, {why}{more}",
    )


def validate_every(
    every_completions: int | str, every_epochs: int | str, samples: int, plan: Batches, batches: int
) -> Chosen[int]:
    """Rollout batches between validations, of which each takes `samples` completions; the last step is validated too.

    auto: about 600 completions; twice a validation's own where that is more, so that validating takes less than
    training; and at most about 20 validations a job.
    """
    if not isinstance(every_completions, str):
        value = max(1, round(every_completions / plan.completions))
        why = f"{every_completions:,} in whole rollout batches of {plan.completions}"
        exact = value * plan.completions == every_completions
        return Chosen(value, "" if exact else _every(value, batches, plan, why))
    if not isinstance(every_epochs, str):
        return Chosen(every_epochs * plan.an_epoch)
    wanted, why = max(
        (VALIDATE_EVERY, f"about {VALIDATE_EVERY}"),
        (2 * samples, f"twice the {samples:,} of a validation"),
        (batches * plan.completions // MOST_VALIDATIONS, f"about {MOST_VALIDATIONS} validations a job"),
    )
    value = max(1, round(wanted / plan.completions))
    return Chosen(value, _every(value, batches, plan, why))


def _every(value: int, batches: int, plan: Batches, why: str) -> str:
    if value >= batches:
        return f"validation at the end alone, after {batches * plan.completions:,} completions: {why}"
    return f"validation every {value * plan.completions:,} completions: {why}"


def batches_of(config: RunConfig, rows: int, prompts: int, world_size: int) -> Batches:
    """The rollout batches of `prompts` prompts that so many processes make of the training rows."""
    group = config.rollout.group_size
    steps = steps_a_pass(config.ppo.minibatches, prompts * group, world_size)
    return Batches(rows, prompts, group, steps * config.ppo.passes)


def course_of(job: Job, plan: Batches, batches: int, every: int) -> Course:
    """How long the job is, for the pilot's estimate of its time; `every`: rollout batches between validations."""
    samples, test = job.config.validation.samples_per_prompt, job.test
    tested = 0 if test is None else 2 * len(test.examples)
    validations = 1 + math.ceil(batches / every)
    return Course(
        batch=plan.completions,
        steps=plan.steps,
        passes=job.config.ppo.passes,
        batches=batches,
        validated=(validations * len(job.validation.examples) + tested) * samples,
        ahead=job.config.rollout.ahead,
    )
