"""The `auto` rules: what a setting becomes for this model, these rows and this device, and why. No model is named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from rft_cli.report.pilot import WITHOUT_PILOT, percentile

T = TypeVar("T")

LORA_FROM_PARAMETERS = 100_000_000
SMALL = 20_000_000
"""Parameters below which a model counts as small."""
MOST_EPOCHS = 40
LEAST_LIMIT = 64
HARDLY_ANY = 0.25
"""Share of the pilot's completions that must end by themselves before their lengths say what the model needs."""


@dataclass(frozen=True, slots=True)
class Chosen(Generic[T]):
    """A value and the sentence that explains it, which is empty where the user chose."""

    value: T
    reason: str = ""


def use_lora(setting: bool | str, parameters: int, quantize: str = "none") -> Chosen[bool]:
    """LoRA for models whose full optimizer state would be costly, and beside a base in 4 bits."""
    if isinstance(setting, bool):
        return Chosen(setting)
    if quantize != "none":
        return Chosen(True, f"LoRA: lora.quantize is {quantize}")
    on = parameters > LORA_FROM_PARAMETERS
    word = "over" if on else "at most"
    kind = "LoRA" if on else "full fine-tuning"
    return Chosen(
        on, f"{kind}: {parameters / 1e6:.1f} M parameters, {word} {LORA_FROM_PARAMETERS // 10**6} M"
    )


class RateLaw(NamedTuple):
    """How a learning rate falls with the model's size: its value, and the power of its fall, full and with LoRA.

    `full` holds at 1 M parameters and below, `lora` at 135 M, between `lowest` and 1e-3.
    """

    full: float
    full_power: float
    lora: float
    lora_power: float
    lowest: float

    def rate(self, parameters: int, lora: bool) -> float:
        """The rate, rounded to two digits."""
        if lora:
            rate = min(1e-3, max(self.lowest, self.lora * (parameters / 135e6) ** -self.lora_power))
        else:
            rate = self.full * (max(parameters, 1_000_000) / 1e6) ** -self.full_power
        return round(rate, -math.floor(math.log10(rate)) + 1)


ROLLOUT_RATES = RateLaw(full=2e-4, full_power=0.6, lora=6e-4, lora_power=0.73, lowest=2e-5)


def learning_rate(
    setting: float | str, parameters: int, lora: bool, law: RateLaw = ROLLOUT_RATES, algorithm: str = ""
) -> Chosen[float]:
    """Full fine-tuning: 2e-4 at 1 M parameters, falling with the 0.6th power to 1e-6 at 7 B. LoRA: 6e-4 at 135 M,
    falling with the 0.73th power to 3e-5 at 8 B; at most 1e-3, at least 2e-5.

    Measured at 1 M (full) and 135 M (LoRA; docs/learning.md); the lower ends are the field's practice: 1e-6 at 7 B,
    LoRA 2e-5 to 3e-5 at 8 B to 72 B.
    """
    if not isinstance(setting, str):
        return Chosen(setting)
    rate = law.rate(parameters, lora)
    kind = algorithm + ("LoRA" if lora else "full fine-tuning")
    return Chosen(rate, f"learning rate {rate:.1e}: {kind} of {parameters / 1e6:.1f} M parameters")


def temperature(setting: float | str, parameters: int) -> Chosen[float]:
    """0.7 under 1 B parameters: at 1 a small model drifts off its subject (docs/learning.md); else 1."""
    if not isinstance(setting, str):
        return Chosen(setting)
    if parameters >= 1_000_000_000:
        return Chosen(1.0)
    return Chosen(0.7, f"sampling temperature 0.7: {parameters / 1e6:.1f} M parameters, under 1 B")


def completions_wanted(parameters: int) -> int:
    """Completions of a job whose length is `auto`: more for small models, whose completions cost little."""
    return 6_000 if parameters < SMALL else 3_000


def prompts_per_batch(setting: int, rows: int, world_size: int) -> Chosen[int]:
    """The setting, lowered to the number of rows, rounded to a multiple of the processes."""
    value = max(world_size, min(setting, rows) // world_size * world_size)
    why = f"the training file has {rows} rows" if rows < setting else f"a multiple of {world_size} processes"
    return Chosen(value, "" if value == setting else f"{value} prompts a rollout batch: {why}")


@dataclass(frozen=True, slots=True)
class ReferenceLengths:
    """Tokens of the references that sft teaches: 95 % of them have at most `most`, all of them at most `longest`."""

    most: int
    longest: int


@dataclass(frozen=True, slots=True)
class LengthLimits:
    """What limits a completion, in tokens: the model's context and the longest prompt; under sft the references too."""

    context: int
    longest_prompt: int
    references: ReferenceLengths | None = None

    @property
    def room(self) -> int:
        """Tokens that the longest prompt leaves for its completion."""
        return self.context - self.longest_prompt


@dataclass(frozen=True, slots=True)
class SeenLengths:
    """The pilot's completions: sorted tokens of those that ended by themselves, how many there were, and their limit
    where the context left room for it."""

    ended: Sequence[int]
    total: int
    limit: int

    @property
    def suffice(self) -> bool:
        """Whether enough completions ended by themselves for their lengths to say what the model needs."""
        return bool(self.ended) and len(self.ended) >= HARDLY_ANY * self.total


def generous_limit(device: str) -> int:
    """The limit of a completion in the pilot, before any lengths are known."""
    return 512 if device == "cpu" else 1024


def max_completion_tokens(setting: int | str, limits: LengthLimits, seen: SeenLengths | None) -> Chosen[int]:
    """Twice the 95th percentile of the lengths of those completions of the pilot that ended by themselves, at least 64.

    The pilot's own limit where fewer than a quarter ended; 512 where there was no pilot; never over the context. What
    the references' lengths are does not count, but under sft: a model that reasons before it answers needs more.
    """
    room = limits.room
    if not isinstance(setting, str):
        return Chosen(
            min(setting, room), "" if setting <= room else f"max completion {room} tokens: the context"
        )
    if seen is None:
        wanted, why = WITHOUT_PILOT, "no pilot measured what the model needs"
    elif limits.references is not None:
        return _limit_under_sft(limits, seen, limits.references)
    elif not seen.suffice:
        wanted, why = seen.limit, f"{len(seen.ended)} of {seen.total} completions ended by themselves"
    else:
        long = percentile(seen.ended, 0.95)
        wanted = max(LEAST_LIMIT, 2 * long)
        twice = "twice that" if wanted == 2 * long else f"at least {LEAST_LIMIT}"
        why = (
            f"of {len(seen.ended)} completions that ended by themselves 95 % have at most {long}, so {twice}"
        )
    value = min(wanted, room)
    if value < wanted:
        why += f"; context {limits.context}, longest prompt {limits.longest_prompt}"
    return Chosen(value, f"max completion {value} tokens: {why}")


def _limit_under_sft(limits: LengthLimits, seen: SeenLengths, references: ReferenceLengths) -> Chosen[int]:
    """Twice what the references need, and twice what the base model needs.

    The base model's own lengths count where at least a quarter of its completions ended by themselves: cut ones would
    make the comparison with it unfair. A model that ends nothing by itself gets no more than the references need.
    """
    wanted = max(LEAST_LIMIT, 2 * references.most, references.longest)
    why = f"95 % of the references have at most {references.most}"
    if seen.suffice:
        own = percentile(seen.ended, 0.95)
        if 2 * own > wanted:
            wanted = 2 * own
            why = f"95 % of the base model's completions have at most {own}"
    value = min(wanted, limits.room)
    return Chosen(value, f"max completion {value} tokens: {why}")


def critic_learning_rate(setting: float | str) -> float:
    """1e-3: the critic starts from nothing whatever the policy's size (docs/algorithm.md)."""
    return 1e-3 if isinstance(setting, str) else setting


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


def largest_divisor(share: int, most: int) -> int:
    """The largest number up to `most` into which `share` completions divide evenly."""
    return max(n for n in range(1, min(most, share) + 1) if share % n == 0)


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
        wanted = 128 if parameters < SMALL else 32 if parameters < 1_000_000_000 else 8
    else:
        wanted = 128 if parameters < 50_000_000 else 32 if parameters < 1_000_000_000 else 8
    micro = largest_divisor(share, wanted)
    reason = (
        ""
        if steps == minibatches
        else f"{steps} steps a pass: {rollout} completions do not divide by {minibatches}"
    )
    return Chosen(BatchSizes(micro, steps), reason)
