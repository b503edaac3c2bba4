"""Why a job gained or did not, in plain words: one line for each finding, with its figure and the setting to change.

The one place: the console, run.json, `rft show` and the report all print these lines. Unlike a tripwire, which looks at
the last few rollout batches while a job trains, a finding is about the whole job.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rft_cli.types import Estimate

FEW_COMPLETIONS = 32
"""Completions of a rollout batch in groups that differ, below which the gradient is mostly noise."""
CONSTANT = 0.5
"""Share of groups with one reward, above which most of what is sampled teaches nothing."""
SOLVED = 0.95
"""Share of the highest reward seen, from which a task counts as solved."""
COLLAPSED = 0.1
"""Share of its first entropy below which a policy no longer tries anything new."""
UNEXPLAINED = 0.05
"""Explained variance below which a critic is no better than a constant."""
COSTLY = 0.5
"""Share of the training time above which the grader is the cost."""
LEAST_GRADING_S = 1.0
"""Seconds of grading a rollout batch below which nobody waits for it."""
OFTEN = 0.01
"""Share of failed grades worth a line."""
UNMOVED = 1e-4
"""KL in nats a token below which the policy is still the base model."""
CARRIED = 0.5
"""Share of the training gain that new rows should show at least."""
BOUNDS = {"kl": 1.0, "truncated": 0.2, "completion_limit": 0.9, "completion_growth": 2.5}
"""The defaults of `tripwires`, for a run whose record lacks its settings."""

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` is the whole line; `value` its figure; `setting` the key that would change it."""

    name: str
    text: str
    value: float
    setting: str

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "text": self.text, "value": self.value, "setting": self.setting}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a diagnosis looks at.

    `lines` are those of metrics.jsonl; `settings` as run.json has them (`ppo.kl_coef` and so on); `limit` is the length
    limit of a completion in tokens. `gain` is the validation gain of the best checkpoint, `slip` the last validation
    less the best one (both paired by row); `top` the highest reward seen, `after` the best checkpoint's mean reward.
    """

    lines: Sequence[Line]
    settings: Mapping[str, Any] = field(default_factory=dict)
    algorithm: str = "ppo"
    limit: int | None = None
    best_step: int = 0
    last_step: int = 0
    gain: Estimate | None = None
    slip: Estimate | None = None
    top: float | None = None
    after: float | None = None

    @property
    def solved(self) -> bool:
        """Whether the tuned model earns nearly the highest reward that was seen."""
        return self.top is not None and self.top > 0 and (self.after or 0.0) >= SOLVED * self.top

    def bound(self, tripwire: str) -> float:
        """The job's bound of this tripwire, or the default where it has none."""
        found = self.settings.get(f"tripwires.{tripwire}")
        return float(found) if _is_number(found) else BOUNDS[tripwire]


def diagnose(facts: Facts) -> list[Finding]:
    """The findings that hold, most telling first; none is a good sign."""
    looks = _OF_SFT if facts.algorithm == "sft" else _OF_ROLLOUTS
    batches = batches_of(facts.lines)
    return [] if not batches else [found for look in looks if (found := look(facts, batches)) is not None]


def batches_of(lines: Sequence[Line]) -> list[list[Line]]:
    """The lines of each rollout batch: those that share its count of completions. Under sft each line is its own."""
    batches: list[list[Line]] = []
    for line in lines:
        count = line.get("completions")
        if batches and count is not None and batches[-1][0].get("completions") == count:
            batches[-1].append(line)
        else:
            batches.append([line])
    return batches


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _values(batches: Sequence[Sequence[Line]], key: str) -> list[float]:
    """The figure of each rollout batch that has it, from its first line."""
    return [float(batch[0][key]) for batch in batches if _is_number(batch[0].get(key))]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _first(values: Sequence[float]) -> float:
    return _mean(values[: max(1, len(values) // 4)])


def _last(values: Sequence[float]) -> float:
    return _mean(values[-max(1, len(values) // 4) :])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _constant_groups(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    shares = _values(batches, "constant_groups")
    if not shares or _mean(shares) < CONSTANT:
        return None
    share = _mean(shares)
    head = f"{_percent(share)} of the groups taught nothing: all completions of a prompt got one reward"
    if facts.solved:
        return Finding(
            "constant_groups",
            f"{head}. The task is nearly solved, so fewer epochs cost less and gain the same: lower optim.n_epochs.",
            share,
            "optim.n_epochs",
        )
    return Finding(
        "constant_groups",
        f"{head}. Raise rollout.group_size or rollout.temperature, take rows that are neither solved nor out of reach, "
        "or have the grader pay in smaller steps.",
        share,
        "rollout.group_size",
    )


def _effective_batch(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    sizes = _batch_sizes(batches)
    shares = _values(batches, "constant_groups")
    if not sizes or not shares or facts.solved:
        return None
    size, varied = _mean(sizes), _mean(sizes) * (1 - _mean(shares))
    if varied >= min(FEW_COMPLETIONS, size):
        return None
    return Finding(
        "effective_batch",
        f"Only {varied:.0f} of the {size:.0f} completions of a rollout batch were in groups that differ, which makes the "
        "gradient noisy. Raise rollout.prompts_per_batch.",
        varied,
        "rollout.prompts_per_batch",
    )


def _batch_sizes(batches: Sequence[Sequence[Line]]) -> list[float]:
    counts = [0.0, *_values(batches, "completions")]
    return [later - earlier for earlier, later in zip(counts, counts[1:], strict=False) if later > earlier]


def _kl(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    values = _values(batches, "kl_per_token")
    if not values or _last(values) <= facts.bound("kl"):
        return None
    kl = _last(values)
    estimator = "k3" if facts.algorithm == "grpo" else "k1"
    return Finding(
        "kl",
        f"KL ({estimator}) to the reference ended at {kl:.3g} nats a token: the policy is far from the base model and may "
        "have lost other skills. Raise ppo.kl_coef or lower optim.learning_rate.",
        kl,
        "ppo.kl_coef",
    )


def _unmoved(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    values = _values(batches, "kl_per_token")
    if facts.best_step or len(values) < 2 or abs(_last(values)) >= UNMOVED:
        return None
    kl = _last(values)
    return Finding(
        "unmoved",
        f"KL to the reference ended at {kl:.1g} nats a token: the policy hardly moved. Raise optim.learning_rate or "
        "optim.n_epochs.",
        kl,
        "optim.learning_rate",
    )


def _entropy(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    values = _values(batches, "entropy")
    if len(values) < 4 or facts.solved or _first(values) <= 0 or _last(values) >= COLLAPSED * _first(values):
        return None
    bonus = "ppo.entropy_coef" if facts.algorithm == "ppo" else "ppo.kl_coef"
    return Finding(
        "entropy",
        f"Entropy fell from {_first(values):.2g} to {_last(values):.2g} nats a token: the completions of a prompt are "
        f"nearly the same, so nothing new is tried. Raise {bonus} or lower optim.learning_rate.",
        _last(values),
        bonus,
    )


def _length_limit(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    lengths, cut = _values(batches, "completion_tokens"), _values(batches, "truncated")
    limit = "the length limit" if facts.limit is None else f"the limit of {facts.limit} tokens"
    if cut and _last(cut) > facts.bound("truncated"):
        return Finding(
            "length_limit",
            f"{_percent(_last(cut))} of the last completions were cut at {limit} and graded unfinished. Raise "
            "rollout.max_completion_tokens, or have the grader pay for an end in time.",
            _last(cut),
            "rollout.max_completion_tokens",
        )
    if facts.limit and lengths and _last(lengths) >= facts.bound("completion_limit") * facts.limit:
        return Finding(
            "length_limit",
            f"The last completions have {_last(lengths):.0f} tokens on average, close to {limit}. Raise "
            "rollout.max_completion_tokens if good ones need more.",
            _last(lengths),
            "rollout.max_completion_tokens",
        )
    return None


def _length_growth(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    lengths = _values(batches, "completion_tokens")
    if len(lengths) < 4 or _first(lengths) <= 0 or _last(lengths) < facts.bound("completion_growth") * _first(lengths):
        return None
    times = _last(lengths) / _first(lengths)
    return Finding(
        "length_growth",
        f"Completions grew {times:.1f} times, from {_first(lengths):.0f} to {_last(lengths):.0f} tokens: the grader may "
        "pay for length. Read the longest ones; lower rollout.max_completion_tokens or change the scorer.",
        times,
        "rollout.max_completion_tokens",
    )


def _critic(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    if facts.algorithm != "ppo" or facts.settings.get("ppo.critic", "none") == "none":
        return None
    half = batches[len(batches) // 2 :]
    pairs = [
        (float(batch[0]["explained_variance"]), float(batch[0]["return_std"]) ** 2)
        for batch in half
        if _is_number(batch[0].get("explained_variance")) and _is_number(batch[0].get("return_std"))
    ]
    total = math.fsum(variance for _, variance in pairs)
    if len(pairs) < 2 or total <= 0:
        return None
    explained = 1.0 - math.fsum((1.0 - ev) * variance for ev, variance in pairs) / total
    if explained >= UNEXPLAINED:
        return None
    return Finding(
        "critic",
        f"The critic explained {_percent(explained)} of the returns' variance in the second half: no better than a "
        "constant. Set ppo.critic=none, or raise ppo.critic_passes.",
        explained,
        "ppo.critic",
    )


def _grader_cost(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    graded = [(batch, float(batch[0]["grade_seconds"])) for batch in batches if _is_number(batch[0].get("grade_seconds"))]
    total = math.fsum(
        float(line["step_seconds"]) for batch, _ in graded for line in batch if _is_number(line.get("step_seconds"))
    )
    seconds = math.fsum(found for _, found in graded)
    if not graded or total <= 0 or seconds / total <= COSTLY or seconds / len(graded) < LEAST_GRADING_S:
        return None
    return Finding(
        "grader_cost",
        f"Grading took {_percent(min(1.0, seconds / total))} of the training time ({seconds / len(graded):.1f} s a rollout "
        "batch). Make the scorer faster, or raise grader.workers (of a judge: grader.judge.concurrency).",
        seconds / total,
        "grader.workers",
    )


def _grader_failures(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    rates = _values(batches, "grader_failed_rate")
    if not rates or _mean(rates) <= OFTEN:
        return None
    return Finding(
        "grader_failures",
        f"{_percent(_mean(rates))} of the completions got no grade because the grader failed; they taught nothing. See "
        "`rft show RUN --failed`; where it was slow, raise grader.timeout_s.",
        _mean(rates),
        "grader.timeout_s",
    )


def _overfit(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    slip = facts.slip
    if slip is None or slip.n < 2 or slip.ci95[1] >= 0:
        return None
    return Finding(
        "overfit",
        f"The validation reward was {-slip.mean:.3f} lower at the end (step {facts.last_step}) than at the best checkpoint "
        f"(step {facts.best_step}): what came after it overfits. Lower optim.n_epochs.",
        slip.mean,
        "optim.n_epochs",
    )


def _not_carried(facts: Facts, batches: list[list[Line]]) -> Finding | None:
    rewards = _values(batches, "reward")
    if len(rewards) < 4 or facts.gain is None or facts.solved:
        return None
    gained = _last(rewards) - _first(rewards)
    spread = max(rewards) - min(rewards)
    if gained <= 0.05 * max(spread, abs(facts.top or 0.0)) or facts.gain.ci95[1] >= CARRIED * gained:
        return None
    return Finding(
        "memorising",
        f"The training reward rose by {gained:.3f}, the validation reward by {facts.gain.mean:.3f}: most of the gain does "
        "not carry over to new rows. Add training rows (data.train), or lower optim.n_epochs.",
        facts.gain.mean,
        "data.train",
    )


Look = Callable[[Facts, list[list[Line]]], Finding | None]
_OF_ROLLOUTS: Sequence[Look] = (
    _grader_failures,
    _constant_groups,
    _effective_batch,
    _unmoved,
    _kl,
    _entropy,
    _length_limit,
    _length_growth,
    _critic,
    _overfit,
    _not_carried,
    _grader_cost,
)
_OF_SFT: Sequence[Look] = (_overfit,)
