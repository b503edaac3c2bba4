"""The `auto` rules: what a setting becomes for this model, these rows and this device, and why. No model is named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from rft_cli.errors import UsageError

T = TypeVar("T")

LORA_FROM_PARAMETERS = 100_000_000
COMPLETIONS_WANTED = 6_000
"""Completions that a job samples where nobody says how long it is."""
MOST_EPOCHS = 40


@dataclass(frozen=True, slots=True)
class Chosen(Generic[T]):
    """A value and the sentence that explains it; the sentence is empty where the user chose."""

    value: T
    reason: str = ""


def use_lora(setting: bool | str, parameters: int) -> Chosen[bool]:
    """LoRA for models whose full optimizer state would be costly."""
    if isinstance(setting, bool):
        return Chosen(setting)
    on = parameters > LORA_FROM_PARAMETERS
    word = "over" if on else "at most"
    kind = "LoRA" if on else "full fine-tuning"
    return Chosen(
        on, f"{kind}: {parameters / 1e6:.1f} M parameters, {word} {LORA_FROM_PARAMETERS // 10**6} M"
    )


def learning_rate(setting: float | str, parameters: int, lora: bool) -> Chosen[float]:
    """2e-4 at 1 M parameters, falling with the 0.6th power to 1e-6 at 7 B; ten times that for LoRA.

    The upper end is measured on small models (docs/learning.md), the lower end is the field's practice for full
    fine-tuning at 7 B (1e-6) and LoRA's factor of ten (Schulman et al. 2025).
    """
    if not isinstance(setting, str):
        return Chosen(setting)
    rate = 2e-4 * (max(parameters, 1_000_000) / 1e6) ** -0.6
    if lora:
        rate *= 10.0
    digits = -math.floor(math.log10(rate)) + 1
    rate = round(rate, digits)
    kind = "LoRA" if lora else "full fine-tuning"
    return Chosen(rate, f"learning rate {rate:.1e}: {kind} of {parameters / 1e6:.1f} M parameters")


def prompts_per_batch(setting: int, rows: int, world_size: int) -> Chosen[int]:
    """The setting, lowered to the number of rows, rounded to a multiple of the processes."""
    value = max(world_size, min(setting, rows) // world_size * world_size)
    why = f"the training file has {rows} rows" if rows < setting else f"a multiple of {world_size} processes"
    return Chosen(value, "" if value == setting else f"{value} prompts a rollout batch: {why}")


def max_completion_tokens(
    setting: int | str, context: int, longest_prompt: int, longest_reference: int | None
) -> Chosen[int]:
    """Twice the longest reference plus 16 tokens (at least 32) where rows have one, else 512; never over the context.

    Base models that reason before they answer need more: the job warns where the baseline runs into the limit.
    """
    room = context - longest_prompt
    if not isinstance(setting, str):
        return Chosen(
            min(setting, room), "" if setting <= room else f"max completion {room} tokens: the context"
        )
    wanted = 512 if longest_reference is None else max(32, 2 * longest_reference + 16)
    value = min(wanted, room)
    why = "no references" if longest_reference is None else f"the longest reference has {longest_reference}"
    return Chosen(
        value, f"max completion {value} tokens: {why}, context {context}, longest prompt {longest_prompt}"
    )


def check_critic(design: str, lora: bool) -> None:
    """UsageError for a critic that is an adapter where nothing has adapters."""
    if design == "adapter" and not lora:
        raise UsageError("ppo.critic: adapter needs LoRA, which is off here", "set ppo.critic to top or mlp")


def critic_learning_rate(setting: float | str, policy_rate: float, joint: bool) -> Chosen[float]:
    """Heads and critics start from nothing and see fewer gradients than the policy: a higher rate."""
    if not isinstance(setting, str):
        return Chosen(setting)
    return Chosen(policy_rate * (10.0 if joint else 3.0))


def critic_warmup(setting: int, batches: int) -> Chosen[int]:
    """The setting, at most a tenth of the job's rollout batches: a short job must move the policy too."""
    value = min(setting, batches // 10)
    reason = f"critic warm-up {value} rollout batches: the job has {batches}"
    return Chosen(value, "" if value == setting else reason)


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """`micro` completions in one forward and backward pass of one process; `minibatches` steps in one pass."""

    micro: int
    minibatches: int


def steps_a_pass(minibatches: int, rollout: int, world_size: int) -> int:
    """The most steps, up to the setting, into which `rollout` completions divide evenly in each process; 0: none."""
    return max((n for n in range(1, minibatches + 1) if rollout % (n * world_size) == 0), default=0)


def batch_sizes(
    setting: int | str, rollout: int, minibatches: int, world_size: int, parameters: int, device: str
) -> Chosen[BatchSizes]:
    """Split a rollout batch of `rollout` completions evenly over steps, processes and passes.

    Fewer steps a pass where the batch does not divide; micro: the largest divisor of a process's share of a step that
    the device is likely to hold (a guess from the parameter count; `optim.micro_batch_size` sets it).
    """
    steps = steps_a_pass(minibatches, rollout, world_size)
    share = rollout // steps // world_size
    if not isinstance(setting, str):
        wanted = setting
    elif device == "cpu":
        wanted = 128 if parameters < 20_000_000 else 8
    else:
        wanted = 128 if parameters < 50_000_000 else 32 if parameters < 1_000_000_000 else 8
    micro = max(n for n in range(1, min(wanted, share) + 1) if share % n == 0)
    reason = (
        ""
        if steps == minibatches
        else f"{steps} steps a pass: {rollout} completions do not divide by {minibatches}"
    )
    return Chosen(BatchSizes(micro, steps), reason)
