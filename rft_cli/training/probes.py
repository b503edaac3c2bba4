"""Grades what the verdict compares the tuned model's completions with: the rows' references, and the completions of
other rows. It needs no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic

from rft_cli.data.references import reference_of
from rft_cli.errors import RunFailed
from rft_cli.events import Progress
from rft_cli.grading.protocol import Grader
from rft_cli.report.gaming.evidence import REFERENCES, SWAPPED, SWAPPED_BASE, others
from rft_cli.report.pairs import Pair, read_pairs
from rft_cli.runs import Run
from rft_cli.training.context import JobContext
from rft_cli.training.distributed.group import from_main
from rft_cli.types import Example, Grade, GradeRequest, Sample

MOST_S = 30.0
"""Seconds for the grades of one split; where the references alone take a third of it, there are no others."""
MOST_ROWS = 200
"""Rows of a split that are graded; the first ones."""
AT_A_TIME = 64
"""Rows graded between two checks whether the job is to stop."""


def keep_probes(context: JobContext, run: Run) -> None:
    """Grade them on the validation rows and on the test rows, and keep that in the run.

    All processes call this; process 0 alone grades. Rows without references have none; a judge is not paid for this.
    """
    job, best = context.job, int(run.info.get("best_step") or 0)
    if context.grader.stats.judges is not None or context.grader.needs_ids or best == 0:
        return
    examples = {"validation": job.validation.examples, "test": job.test.examples if job.test else ()}
    for pair in from_main(lambda: read_pairs(run, best)):
        rows = examples[pair.split][:MOST_ROWS]
        references = [reference_of(row, context.config.data.columns) for row in rows]
        if len({text for text in references if text}) < 2:
            continue
        started = from_main(monotonic)
        for name, samples in _probes(pair, rows, references):
            try:
                graded = _graded(context, rows, samples, f"{pair.split} rows, {_WORDS[name]}")
            except RunFailed:
                return
            from_main(partial(run.write_samples, f"{name}-{pair.split}", graded))
            if from_main(monotonic) - started > MOST_S / 3:
                break


_WORDS = {
    REFERENCES: "their references",
    SWAPPED: "other rows' completions",
    SWAPPED_BASE: "the base's of other rows",
}


def _probes(
    pair: Pair, rows: Sequence[Example], references: Sequence[str | None]
) -> Iterator[tuple[str, list[Sample]]]:
    """Each probe with what it puts in the place of the rows' completions; without grades yet."""
    yield REFERENCES, [_as_sample(row, rows[row], text) for row, text in enumerate(references) if text]
    places = others(references)
    for name, samples in ((SWAPPED, pair.after), (SWAPPED_BASE, pair.before)):
        first: dict[int, Sample] = {}
        for sample in samples:
            first.setdefault(sample.row, sample)
        yield (
            name,
            [
                replace(first[other], row=row, example_id=rows[row].id, prompt=rows[row].prompt_text())
                for row, other in places.items()
                if other in first
            ],
        )


def _as_sample(row: int, example: Example, text: str) -> Sample:
    # How many tokens it has does not matter to the verdict.
    return Sample(row, example.id, example.prompt_text(), text, 0, False, Grade("skipped"))


def _graded(
    context: JobContext, rows: Sequence[Example], samples: Sequence[Sample], what: str
) -> list[Sample]:
    found: list[Sample] = []
    for first in range(0, len(samples), AT_A_TIME):
        part = samples[first : first + AT_A_TIME]
        grades = from_main(partial(_grades, context.grader, rows, part))
        found += [
            replace(sample, grade=grade, guard=None) for sample, grade in zip(part, grades, strict=True)
        ]
        context.emit(Progress(what, len(found), len(samples)))
        context.check_stop()
    return found


def _grades(grader: Grader, rows: Sequence[Example], samples: Sequence[Sample]) -> list[Grade]:
    requests = [
        GradeRequest(
            sample.completion,
            rows[sample.row].fields,
            {"completion_tokens": sample.tokens, "truncated": sample.truncated} if sample.tokens else {},
            rows[sample.row].asked(),
        )
        for sample in samples
    ]
    return grader.grade(requests)
