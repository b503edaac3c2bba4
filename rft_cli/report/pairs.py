"""The same rows before and after a job, as its run directory has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rft_cli.runs import Run
from rft_cli.types import Sample


@dataclass(frozen=True, slots=True)
class Pair:
    """The same rows sampled from the base and from the best checkpoint; `split` is "validation" or "test".

    `constants`: single completions, each graded on all of the rows.
    """

    split: str
    before: Sequence[Sample]
    after: Sequence[Sample]
    constants: Sequence[Sample] = ()


def read_pairs(run: Run, best_step: int) -> list[Pair]:
    """Validation samples of the base and of `best_step`, then the test samples where there are test rows."""
    base = run.read_samples("step-000000")
    best = run.read_samples(f"step-{best_step:06d}") if best_step else base
    pairs = [Pair("validation", base, best, _constants(run, "validation"))]
    if run.has_samples("test-before"):
        before = run.read_samples("test-before")
        after = run.read_samples("test-after") if best_step and run.has_samples("test-after") else before
        pairs.append(Pair("test", before, after, _constants(run, "test")))
    return pairs


def _constants(run: Run, split: str) -> Sequence[Sample]:
    name = f"constant-{split}"
    return run.read_samples(name) if run.has_samples(name) else ()
