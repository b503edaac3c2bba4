"""Whether the rows have the keys that a spec's templates name."""

from __future__ import annotations

from collections.abc import Sequence

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError
from rft_cli.grading.openai.load import read_grader
from rft_cli.grading.openai.render import variables
from rft_cli.grading.openai.templates import Missing, Scope, Variable
from rft_cli.grading.source import read_source
from rft_cli.types import Example, GradeRequest


def missing_keys(config: GraderConfig, examples: Sequence[Example]) -> list[UsageError]:
    """One problem for each template that names a key which some of the rows lack: the first of them, and how many.

    Also of a spec with other problems, which are not said here. Raises UsageError where its file can't be read.
    """
    source = read_source(config)
    problems = []
    for grader in read_grader(config, source).raw:
        for keys, variable in variables(grader.fields, grader.keys):
            if variable.namespace == "item":
                problems += _check(variable, f"{source.shown}: {keys}", examples)
    return problems


def _check(variable: Variable, place: str, examples: Sequence[Example]) -> list[UsageError]:
    # By file and line: a file may be given twice.
    lacking = {str(example.source): reason for example in examples if (reason := _absence(variable, example))}
    if not lacking:
        return []
    source, reason = next(iter(lacking.items()))
    more = f", and so in {len(lacking) - 1} more" if len(lacking) > 1 else ""
    return [UsageError(f"{source}: {reason}{more}", f"{place} names it: correct the template, or the row")]


def _absence(variable: Variable, example: Example) -> str:
    """Why the row has no value for the variable; empty where it has one."""
    try:
        Scope(GradeRequest("", example.fields)).value(variable)
    except Missing as missing:
        return missing.error.message
    return ""
