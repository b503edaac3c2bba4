"""The variables of a spec's templates, and whether the rows have the keys that they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rft_cli.config.schema import GraderConfig
from rft_cli.errors import UsageError
from rft_cli.grading.openai.load import load_spec
from rft_cli.grading.openai.schema import Leaf, Python, StringCheck, TextSimilarity
from rft_cli.grading.openai.templates import Missing, Scope, Variable, parse_template
from rft_cli.grading.source import read_source
from rft_cli.types import Example, GradeRequest


def missing_keys(config: GraderConfig, examples: Sequence[Example]) -> list[UsageError]:
    """One problem for each template that names a key which some of the rows lack: the first of them, and how many.

    Raises UsageError where the spec can't be read.
    """
    source = read_source(config)
    problems = []
    for keys, leaf in load_spec(config, source).leaves():
        for field, variable in variables(leaf):
            if variable.namespace == "item":
                place = ".".join((*map(str, keys), field))
                problems += _check(variable, f"{source.shown}: {place}", examples)
    return problems


def variables(leaf: Leaf) -> Iterator[tuple[str, Variable]]:
    """Every variable of a grader's templates, with its field."""
    for field, text in _templates(leaf):
        for variable in parse_template(text).variables():
            yield field, variable


def _templates(leaf: Leaf) -> Iterator[tuple[str, str]]:
    if isinstance(leaf, StringCheck | TextSimilarity):
        yield "input", leaf.input
        yield "reference", leaf.reference
    elif not isinstance(leaf, Python):
        for number, message in enumerate(leaf.input):
            yield from ((f"input[{number}].content", text) for text in message.content)


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
