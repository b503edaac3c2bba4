"""Applies the auto rules to one job: from its settings, rows, model and device to what the trainer gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rft_cli.config import RunConfig
from rft_cli.job import Job
from rft_cli.report.pilot import Course
from rft_cli.training import auto, job_length
from rft_cli.training.hf_args import Resolved
from rft_cli.training.sft import auto_rules


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of the model and the processes; `device`: its type; `compute`: the type of matrix products."""

    parameters: int
    lora: bool
    device: str
    processes: int
    compute: str

    def checkpoints_gradients(self, setting: bool | str) -> bool:
        """`model.gradient_checkpointing`: auto is on for models that fill a GPU."""
        if isinstance(setting, bool):
            return setting
        return self.device == "cuda" and self.parameters > 300_000_000


class Resolution(NamedTuple):
    """The resolved settings, the sentences that explain them, and the course of a job with rollouts."""

    resolved: Resolved
    reasons: Sequence[str]
    course: Course | None = None


def resolve(job: Job, limits: auto.LengthLimits, facts: ModelFacts) -> Resolution:
    """What the job's algorithm gets; the limit of a completion is that of a job without a pilot."""
    return (_for_sft if job.config.teaches else _for_rollouts)(job, limits, facts)


def _for_rollouts(job: Job, limits: auto.LengthLimits, facts: ModelFacts) -> Resolution:
    config, rows, processes = job.config, len(job.train.examples), facts.processes
    rate = auto.learning_rate(config.optim.learning_rate, facts.parameters, facts.lora)
    prompts = auto.prompts_per_batch(config.rollout.prompts_per_batch, rows, processes)
    plan = job_length.batches_of(config, rows, prompts.value, processes)
    sizes = auto.batch_sizes(
        config.optim.micro_batch_size,
        plan.completions,
        config.ppo.minibatches,
        processes,
        facts.parameters,
        facts.device,
    )
    batches = job_length.length(
        config.optim.n_epochs, config.optim.max_steps, plan, auto.completions_wanted(facts.parameters)
    )
    every = job_length.validate_every(
        config.validation.every_completions,
        config.validation.every_epochs,
        _validated(job),
        plan,
        batches.value,
    )
    warmup = auto.critic_warmup(config.ppo.critic_warmup, batches.value)
    temperature = auto.temperature(config.rollout.temperature, facts.parameters)
    choices: list[auto.Chosen[Any]] = [rate, temperature, prompts, sizes, batches, every]
    if config.algorithm == "ppo":
        choices.append(warmup)
    resolved = Resolved(
        lora=facts.lora,
        learning_rate=rate.value,
        critic=config.ppo.critic,
        critic_learning_rate=auto.critic_learning_rate(config.ppo.critic_learning_rate),
        n_epochs=plan.begun(batches.value),
        max_steps=batches.value * plan.steps,
        validate_every=every.value * plan.steps,
        prompts_per_batch=prompts.value,
        max_completion_tokens=limit_of(config, limits).value,
        micro_batch_size=sizes.value.micro,
        gradient_checkpointing=facts.checkpoints_gradients(config.model.gradient_checkpointing),
        critic_warmup=warmup.value,
        world_size=processes,
        minibatches=sizes.value.minibatches,
        temperature=temperature.value,
        compute=facts.compute,
    )
    course = job_length.course_of(job, plan, batches.value, every.value)
    return Resolution(resolved, [choice.reason for choice in choices], course)


def _for_sft(job: Job, limits: auto.LengthLimits, facts: ModelFacts) -> Resolution:
    """A step is a batch of rows."""
    config, rows, processes = job.config, len(job.train.examples), facts.processes
    rate = auto_rules.learning_rate(config.optim.learning_rate, facts.parameters, facts.lora)
    batch = auto_rules.batch_size(config.sft.batch_size, rows, processes)
    plan = auto_rules.Steps(rows, batch.value)
    steps = auto_rules.length(config.optim.n_epochs, config.optim.max_steps, plan)
    every = auto_rules.validate_every(
        config.validation.every_completions,
        config.validation.every_epochs,
        _validated(job),
        plan,
        steps.value,
    )
    sizes = auto.batch_sizes(
        config.optim.micro_batch_size, batch.value, 1, processes, facts.parameters, facts.device
    )
    resolved = Resolved(
        lora=facts.lora,
        learning_rate=rate.value,
        critic="none",
        critic_learning_rate=0.0,
        n_epochs=-(-steps.value // plan.an_epoch),
        max_steps=steps.value,
        validate_every=every.value,
        prompts_per_batch=batch.value,
        max_completion_tokens=limit_of(config, limits).value,
        micro_batch_size=sizes.value.micro,
        gradient_checkpointing=facts.checkpoints_gradients(config.model.gradient_checkpointing),
        critic_warmup=0,
        world_size=processes,
        minibatches=1,
        temperature=config.validation.temperature,
        compute=facts.compute,
    )
    return Resolution(resolved, [rate.reason, batch.reason, steps.reason, every.reason])


def _validated(job: Job) -> int:
    """Completions of one validation."""
    return len(job.validation.examples) * job.config.validation.samples_per_prompt


def limit_of(
    config: RunConfig, limits: auto.LengthLimits, known: Mapping[str, Any] | None = None
) -> auto.Chosen[int]:
    """The limit of a completion without a pilot, or with the document of an earlier one."""
    setting = config.rollout.max_completion_tokens
    if isinstance(setting, str) and known is not None:
        setting = int(known["max_completion_tokens"])
    return auto.max_completion_tokens(setting, limits, None)
