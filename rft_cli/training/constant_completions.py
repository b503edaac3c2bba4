"""Grades the most frequent completions of a job's end on every row: the reward of one answer to all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

from rft_cli.errors import RunFailed
from rft_cli.events import Note, Progress
from rft_cli.grading.protocol import Grader
from rft_cli.report.collapse import FEW, candidates
from rft_cli.report.pairs import read_pairs
from rft_cli.runs import Run
from rft_cli.training.context import JobContext
from rft_cli.training.distributed.group import from_main
from rft_cli.types import Example, Grade, GradeRequest, Sample

MOST_S = 30.0
"""Seconds for the completions of one split; the first one takes as long as it needs, like a validation's grading."""
AT_A_TIME = 64
"""Rows graded between two checks whether the job is to stop."""

OnProgress = Callable[[int, int], None]


def keep_constants(context: JobContext, run: Run) -> None:
    """Grade them on the validation rows and on the test rows, and keep that in the run.

    All processes call this; process 0 alone grades.
    """
    job, grader = context.job, context.grader
    examples = {"validation": job.validation.examples, "test": job.test.examples if job.test else ()}
    for split, chosen in from_main(partial(_chosen, run, grader)):

        def progress(done: int, total: int, split: str = split) -> None:
            context.emit(Progress(f"one answer for all {split} rows", done, total))
            context.check_stop()

        try:
            found = _on_every_row(grader, chosen, examples[split], progress)
        except RunFailed as error:
            # A judge's budget is spent: the job has its result without this.
            text = f"no constant answer was graded on the {split} rows: {error.message}"
            context.emit(Note(text, "warning"))
            return
        from_main(partial(run.write_samples, f"constant-{split}", found))


def grade_constants(
    grader: Grader, after: Sequence[Sample], examples: Sequence[Example], progress: OnProgress
) -> list[Sample]:
    """The most frequent completions of `after`, each on every row, as many as the time allows."""
    return _on_every_row(grader, _of_ends(grader, [after]), examples, progress)


def _chosen(run: Run, grader: Grader) -> list[tuple[str, list[Sample]]]:
    """Each split with the completions to be tried on it."""
    steps = run.validated_steps()
    best = int(run.info.get("best_step") or 0)
    last = [run.read_samples(f"step-{steps[-1]:06d}")] if steps[-1] != best else []
    return [(pair.split, _of_ends(grader, [pair.after, *last])) for pair in read_pairs(run, best)]


def _of_ends(grader: Grader, ends: Sequence[Sequence[Sample]]) -> list[Sample]:
    """The candidates of `ends`; one alone where judges are paid."""
    paid = grader.stats.judges is not None
    return candidates(ends[:1] if paid else ends, 1 if paid else FEW)


def _on_every_row(
    grader: Grader, chosen: Sequence[Sample], examples: Sequence[Example], progress: OnProgress
) -> list[Sample]:
    """Each of `chosen` on each row, until another one would take longer than MOST_S by the mean of those before."""
    started = from_main(monotonic)
    found: list[Sample] = []
    for number, given in enumerate(chosen):
        spent = from_main(monotonic) - started
        if number and spent + spent / number > MOST_S:
            break
        for first in range(0, len(examples), AT_A_TIME):
            rows = examples[first : first + AT_A_TIME]
            grades = from_main(partial(_grades, grader, given, rows))
            found += [
                Sample(row, e.id, e.prompt_text(), given.completion, given.tokens, given.truncated, grade)
                for row, (e, grade) in enumerate(zip(rows, grades, strict=True), first)
            ]
            progress(len(found), len(chosen) * len(examples))
    return found


def _grades(grader: Grader, given: Sample, rows: Sequence[Example]) -> list[Grade]:
    metadata = {"completion_tokens": given.tokens, "truncated": given.truncated}
    return grader.grade([GradeRequest(given.completion, e.fields, metadata, e.asked()) for e in rows])
