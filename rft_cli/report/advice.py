"""What to do after a job: the next command and the reason for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft_cli.report.collapse import best_constant, repetition_of
from rft_cli.report.estimates import compare
from rft_cli.report.pairs import Pair
from rft_cli.runs import Run
from rft_cli.runs.suggested_commands import longer, quoted

MOST_CUT = 0.9
"""Share of cut completions above which nothing but the length limit matters."""
_NO_GROUP = (
    "No prompt had two graded completions in training: there was nothing to compare, and more epochs would not help. "
    "See in rollouts/ why the scorer gives no grade."
)
_SMALLER = 3.0
"""What a learning rate that was too large is divided by."""


@dataclass(frozen=True, slots=True)
class Advice:
    """`text` says why, where there is more to say than the command does."""

    next: str
    text: str | None = None


def advise(
    run: Run, best_step: int, metrics: Sequence[Mapping[str, Any]], pair: Pair, fooled: bool = False
) -> Advice:
    """The advice after a job with these lines of metrics; `pair`: the rows that the result is about.

    `fooled`: the gain looks gamed, or the guard fell.
    """
    config = quoted(run.path / "config.yaml")
    cut = _mean(metrics, "truncated")
    if not best_step and cut is not None and cut > MOST_CUT:
        limit = max((sample.tokens for sample in pair.before if sample.truncated), default=64)
        return Advice(
            f"rft train {config} --set rollout.max_completion_tokens={2 * limit}",
            f"{cut:.0%} of the training completions were cut at the length limit, so the scorer saw no whole answer: "
            "give them room, or ask for shorter answers; more epochs would not help.",
        )
    # None: no group has two grades.
    shares = [row["constant_groups"] for row in metrics if "constant_groups" in row]
    if not best_step and shares and all(share is None or share == 1.0 for share in shares):
        rewards = {row["reward"] for row in metrics if isinstance(row.get("reward"), int | float)}
        return Advice(
            f"rft validate {config} --model {quoted(run.info.get('model') or '')}",
            _NO_GROUP if set(shares) == {None} else _why_flat(rewards),
        )
    if fooled:
        return _of_a_fooled_scorer(run)
    if not best_step:
        return _nothing_beat(run, config, metrics)
    if run.info.get("algorithm") == "sft":
        return _of_teaching(run, config)
    return _of_a_gain(run, config, metrics, pair)


def _why_flat(rewards: set[float]) -> str:
    if rewards == {0.0}:
        return (
            "No completion earned anything in training, so there was nothing to learn from, and more epochs would not "
            "help. Read the completions in rollouts/: either the scorer wants a form that the prompt does not ask for, "
            "or the rows are too hard: teach the references first (--algorithm sft, then --model RUN), give partial "
            "credit, take easier rows or a larger model."
        )
    return (
        "All completions of a prompt got the same reward, in every batch: there was nothing to learn from, and more "
        "epochs would not help. Take harder rows, or a scorer that gives a better completion more than a good one."
    )


def _nothing_beat(run: Run, config: str, metrics: Sequence[Mapping[str, Any]]) -> Advice:
    rewards = [row["reward"] for row in metrics if isinstance(row.get("reward"), int | float)]
    part = max(1, len(rewards) // 3)
    rate = _smaller_rate(metrics)
    if len(rewards) > 1 and math.fsum(rewards[-part:]) < math.fsum(rewards[:part]) and rate is not None:
        return Advice(
            f"rft train {config} --learning-rate {rate:.1g}",
            "The training reward fell: steps that are too large are the usual reason.",
        )
    return Advice(f"rft train {config} {_longer(run, metrics)}")


def _longer(run: Run, metrics: Sequence[Mapping[str, Any]]) -> str:
    """The flags of a job twice as long."""
    settings = run.info.get("settings") or {}
    steps = max((int(row.get("step") or 0) for row in metrics), default=1)
    epochs = settings.get("optim.n_epochs", max((epoch_of(row) for row in metrics), default=1))
    return longer(epochs, settings.get("optim.max_steps"), steps)


def _of_a_fooled_scorer(run: Run) -> Advice:
    grader = (run.info.get("settings") or {}).get("grader.path")
    file = grader if isinstance(grader, str) else "scorer.py"
    return Advice(
        f"rft grade --run {quoted(run.path)} --reward-model {quoted(file)}",
        "Change the scorer so that it no longer pays for that. The next command grades the completions of this run "
        "with it, without a model: they are examples of what it has to refuse.",
    )


def _of_a_gain(run: Run, config: str, metrics: Sequence[Mapping[str, Any]], pair: Pair) -> Advice:
    constant, answers = best_constant(pair.constants, pair.after), repetition_of(pair.after)
    rate = _smaller_rate(metrics)
    if constant is not None and constant.as_good and answers is not None and answers.collapsed and rate:
        return Advice(
            f"rft train {config} --learning-rate {rate:.1g}",
            "One answer to every row is what was learned: smaller steps keep a policy from collapsing, and rows in "
            "which no answer is much more often right than the others give it less to collapse to.",
        )
    as_it_is = f"`rft export {quoted(run.path)}` takes the model out as it is."
    if constant is not None and constant.as_good:
        flags = f"--learning-rate {rate:.1g}" if rate else _longer(run, metrics)
        why = (
            "The gain is not above what one answer to every row earns: rows in which no answer is much more often "
            "right than the others, or smaller steps, give the model more to learn than that answer."
        )
        return Advice(f"rft train {config} {flags}", f"{why} {as_it_is}")
    if compare(pair.before, pair.after).difference.ci95[0] <= 0:
        why = "The gain may be chance: more validation rows make a small gain certain, more epochs may make it larger."
        return Advice(f"rft train {config} {_longer(run, metrics)}", f"{why} {as_it_is}")
    return Advice(f"rft export {quoted(run.path)}")


def _of_teaching(run: Run, config: str) -> Advice:
    """Reinforcement on the same rows from the sft model; settings that were auto are chosen again."""
    settings = run.info.get("settings") or {}
    again = [
        flag
        for key, flag in (
            ("optim.learning_rate", "--learning-rate auto"),
            ("optim.n_epochs", "--n-epochs auto"),
        )
        if settings.get(key, "auto") != "auto"
    ]
    steps = [] if settings.get("optim.max_steps") is None else ["--set optim.max_steps=null"]
    flags = " ".join([f"--model {quoted(run.path)}", "--algorithm ppo", *again, *steps])
    return Advice(
        f"rft train {config} {flags}",
        f"This is what the references teach. `rft export {quoted(run.path)}` takes the model out as it is; the next "
        "command continues from it with reinforcement.",
    )


def epoch_of(row: Mapping[str, Any]) -> int:
    """The epoch, counted from 1, that a line of metrics belongs to."""
    # `epoch` is the fraction of passes done after the step: everything up to 1.0 belongs to the first.
    return max(1, math.ceil(round(float(row.get("epoch") or 0.0), 6)))


def _mean(metrics: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [row[key] for row in metrics if isinstance(row.get(key), int | float)]
    return math.fsum(values) / len(values) if values else None


def _smaller_rate(metrics: Sequence[Mapping[str, Any]]) -> float | None:
    rates = [row["learning_rate"] for row in metrics if isinstance(row.get("learning_rate"), int | float)]
    return max(rates) / _SMALLER if rates and max(rates) > 0 else None
