"""Checks that need more than one setting, before anything loads."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from rft_cli.config.engines import engine_problems, idle_settings
from rft_cli.config.flat import flat
from rft_cli.config.hub_names import hub_name
from rft_cli.config.judges import judge_problems
from rft_cli.config.paths import named
from rft_cli.config.schema import RunConfig
from rft_cli.errors import UsageError

PPO_ONLY = (
    "gamma",
    "lambda_policy",
    "lambda_value",
    "critic",
    "critic_learning_rate",
    "critic_passes",
    "critic_warmup",
    "value_clip",
    "entropy_coef",
)
"""Settings of the `ppo` section without effect on grpo and rloo."""
_WITHOUT_CRITIC = ("gamma", "lambda_policy", "critic", "entropy_coef")
"""Those of them that PPO without a critic reads."""

_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that contradict each other: `keys` (the one to name first), what is wrong, what to do."""

    keys: tuple[str, ...]
    message: str
    fix: str


@dataclass(frozen=True)
class Combinations:
    """`conflicts` stop the job; `notes` are for people."""

    conflicts: list[Conflict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_combinations(config: RunConfig, given: Collection[str] = ()) -> Combinations:
    """Check settings against each other. `given`: the dotted keys that were set, not left alone."""
    conflicts = [
        *(_sft_batches(config) if config.teaches else _batches(config)),
        *_validation(config),
        *_grader(config),
        *_seeds(config),
        *_judge(config),
        *_lora(config),
        *(Conflict(*problem) for problem in engine_problems(config.rollout)),
    ]
    return Combinations(conflicts, _notes(config, given))


def _batches(config: RunConfig) -> list[Conflict]:
    """A rollout batch is divided evenly into processes and steps, and each part evenly into micro batches."""
    group, prompts = config.rollout.group_size, config.rollout.prompts_per_batch
    minibatches, processes = config.ppo.minibatches, config.num_processes
    keys = ("rollout.prompts_per_batch", "rollout.group_size", "ppo.minibatches", "num_processes")
    batch, parts = group * prompts, minibatches * processes
    if batch % parts:
        message = (
            f"a rollout batch of {prompts} prompts x {group} completions = {batch} can't be divided into "
            f"{minibatches} minibatches x {processes} {'process' if processes == 1 else 'processes'} = {parts} "
            "equal parts"
        )
        near = _multiples_near(prompts, parts // math.gcd(group, parts))
        return [Conflict(keys, message, f"set {keys[0]} to {near}")]
    part = batch // parts
    what = f"completions which one process has in a minibatch ({batch} in a rollout batch / {parts})"
    return _micro_batches(config, part, what, keys)


def _sft_batches(config: RunConfig) -> list[Conflict]:
    """A step's rows are divided evenly into processes, and each part evenly into micro batches."""
    batch, processes = config.sft.batch_size, config.num_processes
    keys = ("sft.batch_size", "num_processes")
    if batch == "auto":
        return []
    if batch % processes:
        message = f"a step of {batch} rows can't be divided into {processes} equal parts, one a process"
        return [Conflict(keys, message, f"set {keys[0]} to {_multiples_near(batch, processes)}")]
    return _micro_batches(config, batch // processes, "rows which one process has in a step", keys)


def _multiples_near(value: int, step: int) -> str:
    return " or ".join(str(n) for n in (value // step * step, (value // step + 1) * step) if n)


def _micro_batches(config: RunConfig, part: int, what: str, keys: tuple[str, ...]) -> list[Conflict]:
    micro = config.optim.micro_batch_size
    if micro == "auto" or part % micro == 0:
        return []
    fits = max(size for size in range(1, min(micro, part) + 1) if part % size == 0)
    message = f"{micro} does not divide the {part} {what}"
    fix = f"set optim.micro_batch_size to {fits}, or leave it at auto"
    return [Conflict(("optim.micro_batch_size", *keys), message, fix)]


def _validation(config: RunConfig) -> list[Conflict]:
    found = []
    samples, every = config.validation.samples_per_prompt, ("every_completions", "every_epochs")
    if samples > 1 and config.validation.temperature == 0:
        message = f"{samples} samples at validation.temperature 0 would all be the same"
        fix = "set validation.samples_per_prompt to 1, or a validation.temperature over 0"
        found.append(Conflict(("validation.samples_per_prompt", "validation.temperature"), message, fix))
    if all(getattr(config.validation, name) != "auto" for name in every):
        keys = tuple(f"validation.{name}" for name in every)
        found.append(
            Conflict(keys, f"set beside {keys[1]}: both say when to validate", "set one of them to auto")
        )
    return found


def _grader(config: RunConfig) -> list[Conflict]:
    try:
        parts = config.grader.each()
    except UsageError as error:
        return [Conflict(("grader.path",), error.message, error.fix or "")]
    if not parts or all(weight == 0 for _, weight in parts):
        message = "no scorer is named" if not parts else "every weight is 0: there is nothing to learn"
        return [Conflict(("grader.path",), message, "name a scorer: [a.py, b.py:short=0.2]")]
    guard = config.grader.guard
    if guard is not None and guard == config.grader.path:
        message = "the guard is the grader itself: it would rise whenever the reward does"
        return [Conflict(("grader.guard",), message, "name a scorer that measures something else")]
    if config.grader.path is None or config.grader.spec is None:
        return []
    message = "a grader file and an inline spec are both set"
    fix = "keep one of grader.path and grader.spec (--set grader.spec=null leaves the inline one out)"
    return [Conflict(("grader.path", "grader.spec"), message, fix)]


def _seeds(config: RunConfig) -> list[Conflict]:
    seeds = {"seed": config.seed, "validation.seed": config.validation.seed}
    message = f"must be a whole number from 0 to {_LARGEST_SEED}"
    return [
        Conflict((key,), f"{message} (got {seed})", "choose a smaller number that is not negative")
        for key, seed in seeds.items()
        if not 0 <= seed <= _LARGEST_SEED
    ]


def _judge(config: RunConfig) -> list[Conflict]:
    return [
        Conflict((f"grader.judge.{problem.key}",), problem.message, problem.fix)
        for problem in judge_problems(config.grader.judge)
    ]


def _lora(config: RunConfig) -> list[Conflict]:
    if config.lora.quantize == "none" or config.lora.enabled is not False:
        return []
    message = (
        f"{config.lora.quantize} is a frozen base in 4 bits, beside which only an adapter can be trained"
    )
    return [
        Conflict(
            ("lora.quantize", "lora.enabled"), message, "set lora.enabled to true, or lora.quantize to none"
        )
    ]


def _notes(config: RunConfig, given: Collection[str]) -> list[str]:
    notes = []
    unused = [f"ppo.{name}" for name in PPO_ONLY if f"ppo.{name}" in given]
    if config.teaches:
        notes += _idle_under_sft(config, given)
    elif "sft.batch_size" in given and config.sft.batch_size != "auto":
        notes.append(f"sft.batch_size: no effect with algorithm {config.algorithm}")
    if config.algorithm in ("grpo", "rloo") and unused:
        notes.append(f"{', '.join(unused)}: no effect with algorithm {config.algorithm}, which has no critic")
    adapter = [
        key for key in given if key.startswith("lora.") and key not in ("lora.enabled", "lora.quantize")
    ]
    if config.lora.enabled is False and adapter:
        notes.append(f"{', '.join(sorted(adapter))}: no effect while lora.enabled is false")
    notes += _idle_critic(config, given)
    every, epochs = config.validation.every_epochs, config.optim.n_epochs
    if every != "auto" and epochs != "auto" and every > epochs:
        notes.append(
            f"validation.every_epochs is {every}: a job of {epochs} epochs validates at its end alone"
        )
    idle = [] if config.teaches else idle_settings(config.rollout)
    if idle:
        notes.append(f"{', '.join(idle)}: no effect with rollout.engine {config.rollout.engine}")
    data = config.data
    if _same_rows(data.validation, data.train):
        notes.append("data.validation is the training file: its reward says nothing of rows that are new")
    if config.rollout.temperature not in ("auto", 1.0) and not config.teaches:
        notes.append(
            f"rollout.temperature is {config.rollout.temperature:g}: the policy is sampled at it, "
            "so expect other results when you serve it at 1"
        )
    if config.rollout.top_p < 1.0 and not config.teaches:
        notes.append(
            f"rollout.top_p is {config.rollout.top_p:g}: sampled completions no longer follow the policy"
        )
    if _same_rows(data.test, data.validation):
        notes.append("data.test is the validation file: the best checkpoint was chosen on these rows")
    return notes


SFT_READS = (
    "rollout.max_completion_tokens",
    "pilot.prompts",
    "tripwires.action",
    "tripwires.window",
    "tripwires.entropy",
)
"""Settings of sections about rollouts that sft reads too."""


def _idle_under_sft(config: RunConfig, given: Collection[str]) -> list[str]:
    """Settings of rollouts that were set although sft does not read them."""
    plain = flat(RunConfig())
    now = flat(config)
    unread = [
        key
        for key in now
        if key.partition(".")[0] in ("ppo", "rollout", "pilot", "tripwires")
        and key in given
        and key not in SFT_READS
        and now[key] != plain[key]
    ]
    why = "no effect with algorithm sft, which samples no completions to train on"
    return [f"{', '.join(unread)}: {why}"] if unread else []


def _same_rows(one: str | list[str] | None, other: str | list[str] | None) -> bool:
    """Whether a name is in both; a hub data set without a split means another split for each."""
    both = set(named(one)) & set(named(other))
    return any((hub := hub_name(name)) is None or hub.split is not None for name in both)


def _idle_critic(config: RunConfig, given: Collection[str]) -> list[str]:
    """Settings of a critic where there is none."""
    if config.algorithm != "ppo" or config.ppo.critic != "none":
        return []
    unread = [f"ppo.{name}" for name in PPO_ONLY if name not in _WITHOUT_CRITIC and f"ppo.{name}" in given]
    return [f"{', '.join(unread)}: no effect without a critic (ppo.critic)"] if unread else []
