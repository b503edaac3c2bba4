"""Why a job gained or did not, in plain words: one line for each diagnosis, with its figure and the setting to change.

The one place: the console, run.json, `rft show` and the report all print these lines. Unlike a tripwire, which looks at
the last few rollout batches while a job trains, a diagnosis is about the whole job.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rft_cli.report.facts import Facts, Metrics, facts_of, grade_wait, is_number
from rft_cli.runs import Run

FEW_COMPLETIONS = 32
"""Completions of a rollout batch in groups that differ, below which the gradient is mostly noise."""
CONSTANT = 0.5
"""Share of groups with one reward, above which most of what is sampled teaches nothing."""
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


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`text` is the whole line; `value` its figure; `setting` the key that would change it."""

    name: str
    text: str
    value: float
    setting: str

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "text": self.text, "value": self.value, "setting": self.setting}


def diagnose_run(run: Run, lines: Sequence[Metrics]) -> list[Diagnosis]:
    """The diagnosis of this run, whose metrics.jsonl has these `lines`."""
    return diagnose(facts_of(run, lines))


def diagnose(facts: Facts) -> list[Diagnosis]:
    """Every diagnosis that holds, most telling first; none is a good sign."""
    if not facts.batches:
        return []
    checks = _OF_SFT if facts.algorithm == "sft" else _OF_ROLLOUTS
    return [found for check in checks if (found := check(facts)) is not None]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _grader_failures(facts: Facts) -> Diagnosis | None:
    rates = facts.series("grader_failed_rate")
    if rates is None or rates.mean <= OFTEN:
        return None
    text = (
        f"{_percent(rates.mean)} of the completions got no grade because the grader failed: they taught nothing. "
        "`rft show RUN --failed` has the reasons; where it was slow, raise grader.timeout_s."
    )
    return Diagnosis("grader_failures", text, rates.mean, "grader.timeout_s")


def _constant_groups(facts: Facts) -> Diagnosis | None:
    shares = facts.series("constant_groups")
    if shares is None or shares.mean < CONSTANT:
        return None
    text = (
        f"{_percent(shares.mean)} of the groups taught nothing: all completions of a prompt got one reward. "
    )
    if facts.solved:
        text += "The task is nearly solved: fewer epochs cost less and gain as much; lower optim.n_epochs."
        return Diagnosis("constant_groups", text, shares.mean, "optim.n_epochs")
    text += (
        "Raise rollout.group_size or rollout.temperature, take rows that are neither solved nor out of reach, or have "
        "the grader pay in smaller steps."
    )
    return Diagnosis("constant_groups", text, shares.mean, "rollout.group_size")


def _effective_batch(facts: Facts) -> Diagnosis | None:
    size, shares = facts.batch_size, facts.series("constant_groups")
    if size is None or shares is None or facts.solved:
        return None
    varied = size * (1 - shares.mean)
    if varied >= min(FEW_COMPLETIONS, size):
        return None
    text = (
        f"Only {varied:.0f} of the {size:.0f} completions of a rollout batch were in groups whose rewards differ: "
        "the gradient is noisy. Raise rollout.prompts_per_batch."
    )
    return Diagnosis("effective_batch", text, varied, "rollout.prompts_per_batch")


def _unmoved(facts: Facts) -> Diagnosis | None:
    kl = facts.series("kl_per_token", least=2)
    if facts.best_step or kl is None or abs(kl.last) >= UNMOVED:
        return None
    text = (
        f"KL to the reference ended at {kl.last:.1g} nats a token: the policy hardly moved. Raise optim.learning_rate "
        "or optim.n_epochs."
    )
    return Diagnosis("unmoved", text, kl.last, "optim.learning_rate")


def _kl(facts: Facts) -> Diagnosis | None:
    kl = facts.series("kl_per_token")
    if kl is None or kl.last <= facts.bound("kl"):
        return None
    estimator = "k3" if facts.algorithm == "grpo" else "k1"
    text = (
        f"KL ({estimator}) to the reference ended at {kl.last:.3g} nats a token: the policy is far from the base model "
        "and may have lost other skills. Raise ppo.kl_coef or lower optim.learning_rate."
    )
    return Diagnosis("kl", text, kl.last, "ppo.kl_coef")


def _entropy(facts: Facts) -> Diagnosis | None:
    entropy = facts.series("entropy", least=4)
    if entropy is None or facts.solved or entropy.first <= 0 or entropy.last >= COLLAPSED * entropy.first:
        return None
    setting = "ppo.entropy_coef" if facts.algorithm == "ppo" else "ppo.kl_coef"
    text = (
        f"Entropy fell from {entropy.first:.2g} to {entropy.last:.2g} nats a token: the completions of a prompt are "
        f"nearly the same, so nothing new is tried. Raise {setting} or lower optim.learning_rate."
    )
    return Diagnosis("entropy", text, entropy.last, setting)


def _length_limit(facts: Facts) -> Diagnosis | None:
    lengths, cut = facts.series("completion_tokens"), facts.series("truncated")
    limit = "the length limit" if facts.limit is None else f"the limit of {facts.limit} tokens"
    setting = "rollout.max_completion_tokens"
    if cut is not None and cut.last > facts.bound("truncated"):
        text = (
            f"{_percent(cut.last)} of the last completions were cut at {limit} and graded unfinished. Raise {setting}, "
            "or have the grader pay for an end in time."
        )
        return Diagnosis("length_limit", text, cut.last, setting)
    if facts.limit and lengths is not None and lengths.last >= facts.bound("completion_limit") * facts.limit:
        text = (
            f"The last completions have {lengths.last:.0f} tokens on average, close to {limit}. Raise {setting} if "
            "good ones need more."
        )
        return Diagnosis("length_limit", text, lengths.last, setting)
    return None


def _length_growth(facts: Facts) -> Diagnosis | None:
    lengths = facts.series("completion_tokens", least=4)
    if (
        lengths is None
        or lengths.first <= 0
        or lengths.last < facts.bound("completion_growth") * lengths.first
    ):
        return None
    times = lengths.last / lengths.first
    text = (
        f"Completions grew {times:.1f} times, from {lengths.first:.0f} to {lengths.last:.0f} tokens: the grader may "
        "pay for length. Read the longest ones; change the scorer, or lower rollout.max_completion_tokens."
    )
    return Diagnosis("length_growth", text, times, "rollout.max_completion_tokens")


def _critic(facts: Facts) -> Diagnosis | None:
    """Explained variance is pooled over the second half: a plain mean would be ruled by batches of equal returns."""
    if facts.algorithm != "ppo" or facts.settings.get("ppo.critic", "none") == "none":
        return None
    second_half = [batch[0] for batch in facts.batches[len(facts.batches) // 2 :]]
    pairs = [
        (float(line["explained_variance"]), float(line["return_std"]) ** 2)
        for line in second_half
        if is_number(line.get("explained_variance")) and is_number(line.get("return_std"))
    ]
    total = math.fsum(variance for _, variance in pairs)
    if len(pairs) < 2 or total <= 0:
        return None
    explained = 1.0 - math.fsum((1.0 - ev) * variance for ev, variance in pairs) / total
    if explained >= UNEXPLAINED:
        return None
    text = (
        f"The critic explained {_percent(explained)} of the returns' variance in the second half, no more than a "
        "constant would. Set ppo.critic to none, or raise ppo.critic_passes."
    )
    return Diagnosis("critic", text, explained, "ppo.critic")


def _overfit(facts: Facts) -> Diagnosis | None:
    slip = facts.slip
    if slip is None or slip.n < 2 or slip.ci95[1] >= 0:
        return None
    text = (
        f"The validation reward fell by {-slip.mean:.3f} from the best checkpoint (step {facts.best_step}) to the end "
        f"(step {facts.last_step}): the later steps overfit. Lower optim.n_epochs."
    )
    return Diagnosis("overfit", text, slip.mean, "optim.n_epochs")


def _memorising(facts: Facts) -> Diagnosis | None:
    rewards = facts.series("reward", least=4)
    if rewards is None or facts.gain is None or facts.solved:
        return None
    gained, least = rewards.last - rewards.first, 0.05 * abs(facts.top or 0.0)
    if gained <= least or facts.gain.ci95[1] >= CARRIED * gained:
        return None
    text = (
        f"The training reward rose by {gained:.3f}, the validation reward by {facts.gain.mean:.3f}: most of the gain "
        "does not carry over to new rows. Add training rows (data.train), or lower optim.n_epochs."
    )
    return Diagnosis("memorising", text, facts.gain.mean, "data.train")


def _grader_cost(facts: Facts) -> Diagnosis | None:
    graded = [batch for batch in facts.batches if grade_wait(batch[0]) is not None]
    lines = [line for batch in graded for line in batch if is_number(line.get("step_seconds"))]
    total = math.fsum(float(line["step_seconds"]) for line in lines)
    seconds = math.fsum(grade_wait(batch[0]) or 0.0 for batch in graded)
    if not graded or total <= 0 or seconds / total <= COSTLY or seconds / len(graded) < LEAST_GRADING_S:
        return None
    text = (
        f"Grading took {_percent(min(1.0, seconds / total))} of the training time, {seconds / len(graded):.1f} s a "
        "rollout batch. Make the scorer faster, or raise grader.workers (of a judge: grader.judge.concurrency)"
        + ("." if facts.settings.get("rollout.ahead") else "; rollout.ahead=1 grades while the job trains.")
    )
    return Diagnosis("grader_cost", text, seconds / total, "grader.workers")


_Check = Callable[[Facts], Diagnosis | None]
_OF_ROLLOUTS: Sequence[_Check] = (
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
    _memorising,
    _grader_cost,
)
_OF_SFT: Sequence[_Check] = (_overfit,)
