"""Messages to a judge: the templates in their texts, filled in for each completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rft_cli.grading.openai.problems import SpecProblem
from rft_cli.grading.openai.schema import InputMessage
from rft_cli.grading.openai.templates import Missing, Scope, Variable, parse_template
from rft_cli.types import GradeError, GradeRequest, Message

if TYPE_CHECKING:  # judges are loaded where a spec has some
    from rft_cli.grading.judge import Render


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


def variables(fields: Mapping[str, Any], keys: Sequence[str | int] = ()) -> Iterator[tuple[str, Variable]]:
    """Every variable in the fields of a grader that is no multi, with the key path of the field in which it stands.

    Fields with problems, which are told elsewhere, are passed over.
    """
    for field, text in _texts(fields):
        try:
            found = list(parse_template(text).variables())
        except SpecProblem:
            continue
        for variable in found:
            yield ".".join((*map(str, keys), field)), variable


def _texts(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field in ("input", "reference"):
        value = fields.get(field)
        if isinstance(value, str):
            yield field, value
        for number, message in enumerate(value if isinstance(value, list) else ()):
            content = message.get("content") if isinstance(message, Mapping) else None
            for part in content if isinstance(content, list) else [content]:
                text = part.get("text") if isinstance(part, Mapping) else part
                if isinstance(text, str):
                    yield f"{field}[{number}].content", text
