"""Messages to a judge: the templates in their texts, filled in for each completion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rft_cli.grading.spec.models import (
    InputMessage,
    LabelModel,
    ScoreModel,
    Spec,
    StringCheck,
    TextSimilarity,
)
from rft_cli.grading.spec.templates import Missing, Scope, Variable, parse_template
from rft_cli.types import GradeError, GradeRequest, Message

Render = Callable[[GradeRequest], Sequence[Message] | GradeError]


def messages(inputs: Sequence[InputMessage]) -> Render:
    """What makes a judge's messages of a completion; parts of one message become its paragraphs."""
    read = [(message.role, [parse_template(part.text) for part in message.content]) for message in inputs]

    def render(request: GradeRequest) -> Sequence[Message] | GradeError:
        scope = Scope(request)
        try:
            return [
                Message(role=role, content="\n\n".join(part.render(scope) for part in parts))
                for role, parts in read
            ]
        except Missing as missing:
            return missing.error

    return render


def variables(spec: Spec, keys: tuple[str, ...] = ()) -> Iterator[tuple[str, Variable]]:
    """Every variable of a grader that is no multi, with the key path of the field in which it stands."""
    for field, text in _texts(spec):
        for variable in parse_template(text).variables():
            yield ".".join((*keys, field)), variable


def _texts(spec: Spec) -> Iterator[tuple[str, str]]:
    if isinstance(spec, StringCheck | TextSimilarity):
        yield "input", spec.input
        yield "reference", spec.reference
    elif isinstance(spec, ScoreModel | LabelModel):
        for number, message in enumerate(spec.input):
            for part in message.content:
                yield f"input[{number}].content", part.text
