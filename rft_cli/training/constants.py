"""The most frequent completions of a job's end, graded against every row: what one answer to all of them would earn."""

from __future__ import annotations

from collections.abc import Sequence

from rft_cli.errors import RunFailed
from rft_cli.events import Note, OnEvent
from rft_cli.grading.protocol import Grader
from rft_cli.job import Job
from rft_cli.report.answers import FEW, candidates
from rft_cli.report.pairs import read_pairs
from rft_cli.runs import Run
from rft_cli.types import Example, GradeRequest, Sample

SLOW_S = 0.1
"""Mean seconds of a grade over which one completion is tried, not five: it costs as much as one more validation."""


def keep_constants(job: Job, run: Run, grader: Grader, emit: OnEvent) -> None:
    """Grade them on the validation rows and on the test rows, and keep that in the run. Process 0 alone calls this."""
    steps = run.validated_steps()
    best = int(run.info.get("best_step") or 0)
    last = [run.read_samples(f"step-{steps[-1]:06d}")] if steps[-1] != best else []
    examples = {"validation": job.validation.examples, "test": job.test.examples if job.test else ()}
    for pair in read_pairs(run, best):
        try:
            found = grade_constants(grader, [pair.after, *last], examples[pair.split])
        except RunFailed as error:  # a judge's budget is spent: the job's result stands without this
            emit(Note(f"no constant answer was graded on the {pair.split} rows: {error.message}", "warning"))
            return
        run.write_samples(f"constant-{pair.split}", found)


def grade_constants(
    grader: Grader, ends: Sequence[Sequence[Sample]], examples: Sequence[Example]
) -> list[Sample]:
    """Every candidate of `ends` on each row; one candidate alone where judges are paid or a grade is slow."""
    seconds = [sample.grade.seconds for sample in ends[0]]
    dear = grader.stats.judges is not None or sum(seconds) > SLOW_S * len(seconds)
    chosen = candidates(ends[:1] if dear else ends, 1 if dear else FEW)
    return [sample for candidate in chosen for sample in _on_every_row(grader, candidate, examples)]


def _on_every_row(grader: Grader, given: Sample, examples: Sequence[Example]) -> list[Sample]:
    metadata = {"completion_tokens": given.tokens, "truncated": given.truncated}
    grades = grader.grade([GradeRequest(given.completion, e.fields, metadata, e.prompt) for e in examples])
    return [
        Sample(row, e.id, e.prompt_text(), given.completion, given.tokens, given.truncated, grade)
        for row, (e, grade) in enumerate(zip(examples, grades, strict=True))
    ]
