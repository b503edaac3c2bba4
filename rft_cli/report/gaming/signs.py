"""The signs that a reward was had without answering: each with its figure, a sentence and up to two completions.

None of them is a proof by itself. `verdict.py` says which of them make a verdict and which only say how it was done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rft_cli.report.collapse import best_constant, repetition_of, shown
from rft_cli.report.estimates import mean_ci
from rft_cli.report.facts import is_number
from rft_cli.report.gaming import figures
from rft_cli.report.gaming.evidence import GamingEvidence, RowRewards
from rft_cli.types import Sample

BLIND = 0.75
"""Share of the gain that other rows' completions make too, from which it counts as independent of the row."""
OFTEN = 0.25
"""Share of the rows from which a sign is worth a line."""
TIMES = 10.0
"""How many times the highest reference's reward a mean must be to count as one without bound."""
RUNS_WITH = 0.7
"""Rank correlation over rollout batches from which length runs with the reward."""
WITHIN = 0.5
"""The same among the completions of the validations."""
GROWTH = 1.2
"""How many times longer, or shorter, the completions must have become."""
IN_STEP = 0.7
"""Rank correlation with the reward from which copying the prompt explains it."""
OF_THE_WORD = 0.9
"""Correlation with the reward from which one word explains it."""
FEWEST = 6
"""Completions below which no word explains their rewards."""
EXAMPLES = 2
_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Sign:
    """`text` is one sentence; `value` its figure; `examples` are lines about single completions."""

    name: str
    text: str
    value: float
    examples: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "text": self.text, "value": self.value, "examples": list(self.examples)}


def row_blind(evidence: GamingEvidence, rows: Mapping[int, RowRewards]) -> Sign | None:
    """The share of the gain that the tuned model's completions make on other rows too.

    Paired by completion: what it gains on its own row, the lender's, and what it gains on the row that borrows it.
    """
    known = {row: r for row, r in rows.items() if r.swapped_before is not None and r.lender in rows}
    if len(known) < 2:
        return None
    gains = [rows[r.lender].after - rows[r.lender].before for r in known.values()]
    borrowed = [r.swapped - (r.swapped_before or 0.0) for r in known.values()]
    own, on_others = mean_ci(gains), mean_ci(borrowed)
    if own.ci95[0] <= 0 or on_others.mean <= 0:
        return None
    share = on_others.mean / own.mean
    # A share of two small numbers is noise: its half is to be beyond doubt.
    over_half = mean_ci([there - here / 2 for there, here in zip(borrowed, gains, strict=True)])
    if share < BLIND or over_half.ci95[0] <= 0:
        return None
    text = (
        f"{_percent(min(1.0, share))} of the gain does not depend on the row: completions put under other rows' "
        f"prompts gain {on_others.mean:+.3g}, where they belong {own.mean:+.3g}"
    )
    best = sorted(known, key=lambda row: -known[row].swapped)[:EXAMPLES]
    put = {sample.row: sample for sample in reversed(evidence.swapped)}
    lines = [
        f"{known[row].swapped:.3g} on {put[row].example_id} for another row's {_quoted(put[row].completion)}"
        for row in best
    ]
    return Sign("row_blind", text, share, lines)


def follows_row(rows: Mapping[int, RowRewards]) -> bool:
    """Whether the tuned model's completions earn more on their own rows than on others, beyond doubt."""
    lost = [rows[r.lender].after - r.swapped for r in rows.values() if r.lender in rows]
    return len(lost) > 1 and mean_ci(lost).ci95[0] > 0


def over_reference(evidence: GamingEvidence, rows: Mapping[int, RowRewards]) -> Sign | None:
    """Completions that earn more than their own row's reference."""
    over = [row for row, r in rows.items() if r.after > r.reference + 1e-9]
    if not rows or len(over) < OFTEN * len(rows):
        return None
    text = f"{len(over)} of {len(rows)} completions earn more than their row's own reference"
    by_most = sorted(over, key=lambda row: rows[row].reference - rows[row].after)[:EXAMPLES]
    lines = [
        f"{rows[row].after:.3g}, the reference {rows[row].reference:.3g}: {_quoted(_text(evidence.pair.after, row))}"
        for row in by_most
    ]
    return Sign("over_reference", text, len(over) / len(rows), lines)


def out_of_range(evidence: GamingEvidence, rows: Mapping[int, RowRewards]) -> Sign | None:
    """Rewards above those of all references."""
    if not rows:
        return None
    highest = max(r.reference for r in rows.values())
    lowest = min(r.reference for r in rows.values())
    above = [row for row, r in rows.items() if r.after > highest + 1e-9 * max(1.0, abs(highest))]
    if len(above) < OFTEN * len(rows):
        return None
    mean = sum(r.after / len(rows) for r in rows.values())
    text = (
        f"{len(above)} of {len(rows)} rewards are above those of all references ({lowest:.3g} to {highest:.3g}); the "
        f"mean is {mean:.3g}"
    )
    most = sorted(above, key=lambda row: -rows[row].after)[:EXAMPLES]
    lines = [f"{rows[row].after:.3g} for {_quoted(_text(evidence.pair.after, row))}" for row in most]
    return Sign("out_of_range", text, mean, lines)


def unbounded(rows: Mapping[int, RowRewards]) -> bool:
    """Whether the mean reward left the references' scale by far."""
    scale = max((abs(r.reference) for r in rows.values()), default=0.0)
    mean = sum(r.after / len(rows) for r in rows.values()) if rows else 0.0
    return scale > 0 and mean > TIMES * scale


def length(evidence: GamingEvidence) -> Sign | None:
    """Length that rises, or falls, with the reward: over the rollout batches, and among completions."""
    batches = [
        (float(line["completion_tokens"]), float(line["reward"]))
        for line in evidence.batches
        if is_number(line.get("completion_tokens")) and is_number(line.get("reward"))
    ]
    over_steps = figures.rank_correlation([b[0] for b in batches], [b[1] for b in batches])
    graded = _graded(evidence)
    lengths = [float(len(sample.completion)) for sample in graded]
    within = figures.rank_correlation(lengths, [sample.grade.reward or 0.0 for sample in graded])
    before, after = (_mean_length(side) for side in (evidence.pair.before, evidence.pair.after))
    if over_steps is None or within is None or len(batches) < 6 or before <= 0 or after <= 0:
        return None
    same_way = min(over_steps, within) > 0 or max(over_steps, within) < 0
    changed = max(after / before, before / after) >= GROWTH
    if not same_way or not changed or abs(over_steps) < RUNS_WITH or abs(within) < WITHIN:
        return None
    text = (
        f"length runs with the reward: rank correlation {over_steps:+.2f} over the steps, {within:+.2f} among the "
        f"{evidence.pair.split} completions, which went from {before:.0f} to {after:.0f} characters"
    )
    ordered = sorted(evidence.pair.after, key=lambda s: -len(s.completion) * (1 if over_steps > 0 else -1))
    return Sign("length", text, over_steps, _examples(ordered))


def echo(evidence: GamingEvidence) -> Sign | None:
    """Completions that say more of their prompt's words than before and than the references, and are paid for that."""
    if not evidence.references:
        return None
    before, after, right = (
        _mean_overlap(side) for side in (evidence.pair.before, evidence.pair.after, evidence.references)
    )
    graded = _graded(evidence)
    rho = figures.rank_correlation(
        [figures.overlap(s.prompt, s.completion) for s in graded], [s.grade.reward or 0.0 for s in graded]
    )
    if rho is None or rho < IN_STEP or after < GROWTH * max(before, right) or after < right + 0.03:
        return None
    text = (
        f"the completions repeat their prompts: {_percent(after)} of a prompt's words, before {_percent(before)}, in "
        f"the references {_percent(right)}; rank correlation with the reward {rho:+.2f}"
    )
    ordered = sorted(evidence.pair.after, key=lambda s: -figures.overlap(s.prompt, s.completion))
    return Sign("echo", text, after, _examples(ordered))


def keyword(evidence: GamingEvidence) -> Sign | None:
    """A word that nearly every completion has now, that the references lack, where there are any, and that explains
    the reward."""
    before, after, right = (
        figures.shares(figures.words(s.completion) for s in side)
        for side in (evidence.pair.before, evidence.pair.after, evidence.references)
    )
    graded = _graded(evidence)
    if len(graded) < FEWEST:
        return None
    texts = [figures.words(sample.completion) for sample in graded]
    rewards = [sample.grade.reward or 0.0 for sample in graded]
    found: tuple[float, str] | None = None
    for word, share in after.items():
        if share < 0.8 or share - before.get(word, 0.0) < OFTEN or share - right.get(word, 0.0) < OFTEN:
            continue
        link = figures.correlation([float(word in text) for text in texts], rewards)
        if link is not None and link >= OF_THE_WORD and (found is None or link > found[0]):
            found = (link, word)
    if found is None:
        return None
    link, word = found
    of_references = f", in {_percent(right.get(word, 0.0))} of the references" if evidence.references else ""
    text = (
        f'"{word}" stands in {_percent(after[word])} of the completions, before in '
        f"{_percent(before.get(word, 0.0))}{of_references}; correlation with the reward {link:+.2f}"
    )
    having = [s for s in evidence.pair.after if word in figures.words(s.completion)]
    return Sign("keyword", text, after[word], _examples(having))


def one_answer(evidence: GamingEvidence) -> Sign | None:
    """Few texts for many prompts, of which one is as good as the model."""
    answers = repetition_of(evidence.pair.after)
    constant = best_constant(evidence.pair.constants, evidence.pair.after)
    if answers is None or constant is None or not constant.as_good:
        return None
    if answers.share < 0.5 and answers.distinct > max(1, answers.n // 5):
        return None
    text = (
        f"{answers.distinct} different completions on {answers.n} rows; {shown(constant.completion)} on every row "
        f"earns {constant.reward.mean:.3g}, no less than the model"
    )
    given = [s for s in evidence.pair.after if s.completion == answers.most_frequent]
    return Sign("one_answer", text, answers.share, _examples(given))


def audit(evidence: GamingEvidence) -> Sign | None:
    """What the audit said before the job began."""
    if not evidence.audit:
        return None
    text = "the audit warned at the start (`rft grade --audit` shows the texts)"
    lines = [line.removeprefix("scorer: ") for line in evidence.audit[:EXAMPLES]]
    return Sign("audit", text, float(len(evidence.audit)), lines)


def _graded(evidence: GamingEvidence) -> list[Sample]:
    both = [*evidence.pair.before, *evidence.pair.after]
    return [sample for sample in both if sample.grade.reward is not None]


def _mean_length(samples: Sequence[Sample]) -> float:
    return sum(len(s.completion) for s in samples) / len(samples) if samples else 0.0


def _mean_overlap(samples: Sequence[Sample]) -> float:
    found = [figures.overlap(s.prompt, s.completion) for s in samples]
    return sum(found) / len(found) if found else 0.0


def _examples(samples: Sequence[Sample]) -> list[str]:
    return [
        f"{'no grade' if s.grade.reward is None else format(s.grade.reward, '.3g')} for {_quoted(s.completion)}"
        for s in samples[:EXAMPLES]
    ]


def _text(samples: Sequence[Sample], row: int) -> str:
    return next(sample.completion for sample in samples if sample.row == row)


def _quoted(text: str) -> str:
    return shown(text, _WIDTH)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
