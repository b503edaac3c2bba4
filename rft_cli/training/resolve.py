"""The auto rules applied to one job: its settings, rows, model and device become what the trainer gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from accelerate import PartialState

from rft_cli.job import Job
from rft_cli.training import auto, job_length
from rft_cli.training.hf_args import Resolved
from rft_cli.training.rollouts.pilot_sampling import Room
from rft_cli.training.sft import auto_rules


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of the model and the device; `compute`: the type of matrix products."""

    parameters: int
    lora: bool
    state: PartialState
    compute: str

    def checkpoints_gradients(self, setting: bool | str) -> bool:
        """`model.gradient_checkpointing`: auto is on for models that fill a GPU."""
        if isinstance(setting, bool):
            return setting
        return self.state.device.type == "cuda" and self.parameters > 300_000_000


class Choice(NamedTuple):
    """The resolved settings, and the sentences that explain them."""

    resolved: Resolved
    reasons: Sequence[str]


def resolve_rollouts(job: Job, room: Room, found: Found) -> Choice:
    """For the algorithms that learn from rollouts."""
    config, rows, state = job.config, len(job.train.examples), found.state
    rate = auto.learning_rate(config.optim.learning_rate, found.parameters, found.lora)
    prompts = auto.prompts_per_batch(config.rollout.prompts_per_batch, rows, state.num_processes)
    sizes = auto.batch_sizes(
        config.optim.micro_batch_size,
        prompts.value * config.rollout.group_size,
        config.ppo.minibatches,
        state.num_processes,
        found.parameters,
        state.device.type,
    )
    steps = sizes.value.minibatches * config.ppo.passes
    plan = job_length.Batches(rows, prompts.value, config.rollout.group_size, steps)
    batches = job_length.length(
        config.optim.n_epochs, config.optim.max_steps, plan, auto.completions_wanted(found.parameters)
    )
    validations = job_length.validate_every(
        config.validation.every_completions,
        config.validation.every_epochs,
        _validated(job),
        plan,
        batches.value,
    )
    warmup = auto.critic_warmup(config.ppo.critic_warmup, batches.value)
    temperature = auto.temperature(config.rollout.temperature, found.parameters)
    choices: list[auto.Chosen[Any]] = [rate, temperature, prompts, sizes, batches, validations]
    if config.algorithm == "ppo":
        choices.append(warmup)
    resolved = Resolved(
        lora=found.lora,
        learning_rate=rate.value,
        critic=config.ppo.critic,
        critic_learning_rate=auto.critic_learning_rate(config.ppo.critic_learning_rate),
        n_epochs=plan.begun(batches.value),
        max_steps=batches.value * steps,
        validate_every=validations.value * steps,
        prompts_per_batch=prompts.value,
        max_completion_tokens=_limit(job, room),
        micro_batch_size=sizes.value.micro,
        gradient_checkpointing=found.checkpoints_gradients(config.model.gradient_checkpointing),
        critic_warmup=warmup.value,
        world_size=state.num_processes,
        minibatches=sizes.value.minibatches,
        temperature=temperature.value,
        compute=found.compute,
    )
    return Choice(resolved, [choice.reason for choice in choices])


def resolve_teaching(job: Job, room: Room, found: Found) -> Choice:
    """For sft: a step is a batch of rows."""
    config, rows, processes = job.config, len(job.train.examples), found.state.num_processes
    rate = auto_rules.learning_rate(config.optim.learning_rate, found.parameters, found.lora)
    batch = auto_rules.batch_size(config.sft.batch_size, rows, processes)
    plan = auto_rules.Steps(rows, batch.value)
    steps = auto_rules.length(config.optim.n_epochs, config.optim.max_steps, plan)
    validations = auto_rules.validate_every(
        config.validation.every_completions,
        config.validation.every_epochs,
        _validated(job),
        plan,
        steps.value,
    )
    sizes = auto.batch_sizes(
        config.optim.micro_batch_size, batch.value, 1, processes, found.parameters, found.state.device.type
    )
    resolved = Resolved(
        lora=found.lora,
        learning_rate=rate.value,
        critic="none",
        critic_learning_rate=0.0,
        n_epochs=-(-steps.value // plan.an_epoch),
        max_steps=steps.value,
        validate_every=validations.value,
        prompts_per_batch=batch.value,
        max_completion_tokens=_limit(job, room),
        micro_batch_size=sizes.value.micro,
        gradient_checkpointing=found.checkpoints_gradients(config.model.gradient_checkpointing),
        critic_warmup=0,
        world_size=processes,
        minibatches=1,
        compute=found.compute,
    )
    return Choice(resolved, [rate.reason, batch.reason, steps.reason, validations.reason])


def _validated(job: Job) -> int:
    """Completions of one validation."""
    return len(job.validation.examples) * job.config.validation.samples_per_prompt


def _limit(job: Job, room: Room) -> int:
    """The limit of a completion before a pilot has measured it."""
    setting = job.config.rollout.max_completion_tokens
    return auto.max_completion_tokens(setting, room.context, room.longest_prompt, None).value
