"""What is wrong with a spec, as far as it can be seen without starting a worker or asking a server."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import get_args

from rft_cli.errors import UsageError
from rft_cli.grading.spec.inline_python import scorer_source
from rft_cli.grading.spec.load import Keys, ReadSpec
from rft_cli.grading.spec.models import Metric, Python, TextSimilarity
from rft_cli.grading.spec.similarity import check_libraries
from rft_cli.grading.wire.messages import ScorerSource


@dataclass(frozen=True, slots=True)
class Findings:
    """`problems` of a spec, and the keys of the graders that can't be opened because of them."""

    problems: list[UsageError]
    blocked: frozenset[Keys]


def check_spec(read: ReadSpec, source: ScorerSource) -> Findings:
    """The spec's own problems, source that is no grader, libraries that are missing: of graders with other problems
    too.
    """
    problems = list(read.problems)
    blocked: set[Keys] = set()
    similar = [grader for grader in read.raw if grader.kind is TextSimilarity]
    named = [grader.fields.get("evaluation_metric") for grader in similar]
    try:
        check_libraries(metric for metric in get_args(Metric) if metric in named)
    except UsageError as error:
        problems.append(UsageError(f"{source.shown}: {error.message}", error.fix))
        blocked |= {grader.keys for grader in similar}
    for grader in read.raw:
        if grader.kind is Python and isinstance(grader.fields.get("source"), str):
            try:
                python_source(grader.fields["source"], grader.keys, source)
            except UsageError as error:
                problems.append(error)
                blocked.add(grader.keys)
    return Findings(problems, frozenset(blocked))


def python_source(text: str, keys: Keys, source: ScorerSource) -> ScorerSource:
    """The source of the python grader at `keys` as workers load it; raises UsageError where it is none."""
    shown = f"{source.shown}: {'.'.join(map(str, (*keys, 'source')))}"
    return scorer_source(text, os.path.dirname(source.path), shown, source.home)
