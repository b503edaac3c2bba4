"""What the verdict looks at: a row's completions, its reference, and another row's completion in its place, graded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rft_cli.report.estimates import row_means
from rft_cli.report.facts import Metrics
from rft_cli.report.pairs import Pair
from rft_cli.runs import Run
from rft_cli.types import Sample

REFERENCES, SWAPPED, SWAPPED_BASE = "references", "swapped", "swapped-base"
"""Names of what is graded for this, before `-validation` or `-test`."""


@dataclass(frozen=True, slots=True)
class GamingEvidence:
    """`references`: each row's reference as its completion. `swapped`: on each row the tuned model's completion of
    another row, whose reference differs; `swapped_base`: the same of the base. Empty where they were not graded.

    `batches`: a line of metrics for each rollout batch. `audit`: what the audit of the start warned of.
    """

    pair: Pair
    references: Sequence[Sample] = ()
    swapped: Sequence[Sample] = ()
    swapped_base: Sequence[Sample] = ()
    batches: Sequence[Metrics] = ()
    audit: Sequence[str] = ()

    @property
    def measured(self) -> bool:
        """Whether there is something to compare the completions with."""
        return bool(self.references and self.swapped)

    @property
    def missing(self) -> str:
        """Why there is nothing to compare with; empty where there is."""
        if self.measured:
            return ""
        if self.references:
            return "grading the references alone took too long"
        if any(key.startswith("judge_") for line in self.batches for key in line):
            return "a judge grades, and would have to be paid for it"
        return "the rows have no references, or all the same one"


@dataclass(frozen=True, slots=True)
class RowRewards:
    """The rewards of one row: base, tuned, its reference, and both models' completions of another row, `lender`."""

    before: float
    after: float
    reference: float
    swapped: float
    swapped_before: float | None
    lender: int


def read_evidence(run: Run, pair: Pair, batches: Sequence[Metrics]) -> GamingEvidence:
    """The evidence of a run's pair of samples."""

    def probe(name: str) -> Sequence[Sample]:
        kept = f"{name}-{pair.split}"
        return run.read_samples(kept) if run.has_samples(kept) else ()

    warned = [str(found.get("text", "")) for found in run.info.get("warnings") or []]
    return GamingEvidence(
        pair,
        references=probe(REFERENCES),
        swapped=probe(SWAPPED),
        swapped_base=probe(SWAPPED_BASE),
        batches=batches,
        audit=[text for text in warned if text.startswith("scorer: ")],
    )


def others(references: Sequence[str | None]) -> dict[int, int]:
    """Row → the next row whose reference differs, which lends it its completion; rows without a reference have none."""
    count, found = len(references), dict[int, int]()
    for row, own in enumerate(references):
        following = ((row + step) % count for step in range(1, count))
        other = next((place for place in following if references[place] not in (None, "", own)), None)
        if own and other is not None:
            found[row] = other
    return found


def row_rewards(evidence: GamingEvidence) -> dict[int, RowRewards]:
    """The rewards of each row that all sides but the swapped base have."""
    before, after = row_means(evidence.pair.before), row_means(evidence.pair.after)
    references, swapped = row_means(evidence.references), row_means(evidence.swapped)
    base: Mapping[int, float] = row_means(evidence.swapped_base)
    texts = {sample.row: sample.completion for sample in evidence.references}
    lenders = others([texts.get(row) for row in range(max(texts, default=-1) + 1)])
    return {
        row: RowRewards(before[row], after[row], references[row], swapped[row], base.get(row), lenders[row])
        for row in after
        if row in before and row in references and row in swapped and row in lenders
    }
