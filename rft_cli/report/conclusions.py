"""What a comparison shows, in words: the headline, and whether a constant completion earns as much."""

from __future__ import annotations

from rft_cli.report.collapse import ConstantCompletion, Repetition, best_constant, repetition_of, shown
from rft_cli.report.pairs import Pair
from rft_cli.types import Comparison

HOLDS = "the gain holds on rows that were not trained on; read the completions to see whether the scorer was fooled."

GAMED = "the scorer pays for it on new rows too, but see above what it pays for."


def headline(reward: Comparison, pair: Pair) -> str:
    """The verdict on the pair's rows."""
    line = (
        f"Mean reward on the {pair.split} rows went from {reward.before.mean:.3f} to {reward.after.mean:.3f}"
    )
    low, high = reward.difference.ci95
    said = []
    if high < 0:
        said.append("worse than the base there")
    elif low <= 0:
        said.append("the interval of the difference includes 0, so this may be chance")
    constant, answers = best_constant(pair.constants, pair.after), repetition_of(pair.after)
    if constant is not None and constant.as_good:
        said.append(_no_better(constant))
    line = f"{line}: {'; '.join(said)}." if said else f"{line}."
    if answers is not None and answers.collapsed:
        same = constant is not None and constant.as_good and constant.completion == answers.most_frequent
        what = "that answer" if same else f"one answer, {shown(answers.most_frequent)}"
        line += f" The policy collapsed to {what}: {_share(answers)} of its completions."
    return line


def reward_verdict(reward: Comparison, training_gain: float, pair: Pair) -> str:
    """What the validation rows show of what was learned in training."""
    if reward.difference.ci95[0] <= 0:
        return "no clear gain on rows that were not trained on."
    constant = best_constant(pair.constants, pair.after)
    if constant is not None and constant.as_good:
        return f"{_no_better(constant)}."
    if training_gain > 0 and reward.difference.mean < 0.5 * training_gain:
        return "less than half of the training gain carries over to new rows, a sign of memorising."
    return HOLDS


def answers_note(pair: Pair) -> str | None:
    """How the completions differ before and after, and what the best constant answer earns; one line."""
    before, after = repetition_of(pair.before), repetition_of(pair.after)
    if before is None or after is None:
        return None
    constant = best_constant(pair.constants, pair.after)
    ending = ""
    if constant is not None and matters(constant, pair):
        ending = f"; best constant answer {constant.reward.mean:.3f}"
        if constant.completion != after.most_frequent or after.distinct == after.n:
            ending += f" ({shown(constant.completion)})"
    if before.distinct == before.n and after.distinct == after.n:
        return f"All {after.n} answers differ, before and after{ending}."
    if pair.after is pair.before:
        most = f"the most frequent, {_named(after)}, is {_share(after)} of them"
        return f"{after.distinct} distinct answers of {after.n}; {most}{ending}."
    return (
        f"Distinct answers: {before.distinct} -> {after.distinct} of {after.n}; share of the most frequent: "
        f"{_share(before)} ({_named(before)}) -> {_share(after)} ({_named(after)}){ending}."
    )


def matters(constant: ConstantCompletion, pair: Pair) -> bool:
    """Whether to show it: where answers repeat, or where it earns as much as the tuned model."""
    after = repetition_of(pair.after)
    return constant.as_good or (after is not None and after.distinct < after.n)


def _no_better(constant: ConstantCompletion) -> str:
    more = "; the interval of the difference includes 0" if constant.difference.mean > 0 else ""
    return f"no better than answering {shown(constant.completion)} to every row ({constant.reward.mean:.3f}{more})"


def _named(answers: Repetition) -> str:
    return shown(answers.most_frequent, 24)


def _share(answers: Repetition) -> str:
    return f"{100 * answers.share:.0f} %"
