"""Templates: `{{ item.KEY }}` and `{{ sample.output_text }}` in a text, parsed once, rendered for each completion.

A name is followed by any number of `.key`, `[0]` and `["any key"]`. Strings are inserted unchanged, other values as
JSON. Braces whose content does not begin with a letter are text: `{{}}` and `{{"a": 1}}` stay unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from rft_cli.config.suggest import closest, counted
from rft_cli.grading.openai.problems import SpecProblem
from rft_cli.grading.worker.arguments import sample_of
from rft_cli.grading.worker.messages import Item
from rft_cli.types import GradeError, GradeRequest

SAMPLE_PARSE = "sample_parse"
"""The kind of failure where the completion is not JSON, or JSON without a key that a template names."""
NAMESPACES = ("item", "sample")
SAMPLE_NAMES = ("output_text", "output_json", "output_tools", "choices")
_NAME = re.compile(r"\{\{\s*(?P<name>[^\W\d][\w-]*)")
_STEP = re.compile(
    r"""\.(?P<key>[\w-]+)|\[\s*(?:(?P<index>\d{1,9})|"(?P<double>[^"]*)"|'(?P<single>[^']*)')\s*\]"""
)
_CLOSING = re.compile(r"\s*\}\}")
_KEYS_SHOWN = 12


class Missing(Exception):
    """A variable has no value for this completion; the error says which and why."""

    def __init__(self, error: GradeError) -> None:
        super().__init__(error.message)
        self.error = error


class Variable(NamedTuple):
    """One `{{ … }}`: its namespace, and the keys and indices that lead to its value."""

    namespace: str
    path: tuple[str | int, ...]

    @property
    def reads_json(self) -> bool:
        """Whether it reads the completion as JSON."""
        return self.namespace == "sample" and self.path[0] == "output_json"

    def __str__(self) -> str:
        return self.namespace + "".join(_shown(step) for step in self.path)


class Scope:
    """The values that the templates of one completion may name; `sample` is built on first use."""

    __slots__ = ("__dict__", "request")

    def __init__(self, request: GradeRequest) -> None:
        self.request = request

    @cached_property
    def sample(self) -> dict[str, Any]:
        """OpenAI's `sample` object of this completion."""
        return sample_of(Item(0, self.request.completion, {}, dict(self.request.metadata)))

    def value(self, variable: Variable) -> Any:
        """The variable's value; raises Missing."""
        first, *rest = variable.path
        if variable.namespace == "item":
            return _follow(variable, self.request.fields, variable.path, "item")
        if first == "output_text" and not rest:
            return self.request.completion
        value = self.sample[str(first)]
        if first == "output_json" and value is None and self.request.completion.strip() != "null":
            message = f"{{{{ {variable} }}}}: the completion is not JSON"
            raise Missing(GradeError(SAMPLE_PARSE, message))
        kind = SAMPLE_PARSE if first == "output_json" else "invalid_variable"
        return _follow(variable, value, tuple(rest), f"sample.{first}", kind)


@dataclass(frozen=True, slots=True)
class Template:
    """A text with variables in it. `parts` are literal text and variables in order."""

    parts: tuple[str | Variable, ...]

    def variables(self) -> Iterator[Variable]:
        """The variables, in order."""
        return (part for part in self.parts if isinstance(part, Variable))

    def render(self, scope: Scope) -> str:
        """The text for this completion; raises Missing where a variable has no value."""
        return "".join(part if isinstance(part, str) else as_text(scope.value(part)) for part in self.parts)


def as_text(value: Any) -> str:
    """A value as text: strings unchanged, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def parse_template(text: str) -> Template:
    """Parse a template; raises SpecProblem where braces hold a name that is not a variable."""
    parts: list[str | Variable] = []
    position = 0
    while (name := _NAME.search(text, position)) is not None:
        variable, end = _variable(text, name)
        parts += [text[position : name.start()], variable]
        position = end
    return Template(tuple(part for part in (*parts, text[position:]) if part))


def _variable(text: str, name: re.Match[str]) -> tuple[Variable, int]:
    """The variable that begins with this name, and where the text goes on after its braces."""
    namespace, position = name["name"], name.end()
    path: list[str | int] = []
    while (step := _STEP.match(text, position)) is not None:
        path.append(int(step["index"]) if step["index"] else next(k for k in step.groups() if k is not None))
        position = step.end()
    start = name.start("name")
    shown = f"{{{{ {text[start : start + 40].partition('}}')[0].strip()} }}}}"
    if namespace not in NAMESPACES:
        near = closest(namespace, NAMESPACES)
        fix = "item (the data row) and sample (what the model wrote) are all there are"
        fix = f"did you mean '{near}'? {fix}" if near else fix
        raise SpecProblem(f"{shown}: there is no namespace '{namespace}'", fix)
    closing = _CLOSING.match(text, position)
    if closing is None:
        rest = text[position : position + 12].partition("}}")[0].strip() or "the end of the text"
        fix = 'write {{ item.KEY }}, with further .key, [0] or ["any key"]'
        raise SpecProblem(f"{shown}: can't read on at {rest!r}", fix)
    if not path:
        raise SpecProblem(f"{shown} names no variable", f"write {{{{ {namespace}.KEY }}}}")
    if namespace == "sample":
        _check_sample(path[0], shown)
    return Variable(namespace, tuple(path)), closing.end()


def _check_sample(key: str | int, shown: str) -> None:
    if key == "output_audio":
        raise SpecProblem(f"{shown}: rft trains models that write text", "use sample.output_text")
    if key not in SAMPLE_NAMES:
        near = closest(str(key), SAMPLE_NAMES)
        fix = f"did you mean 'sample.{near}'?" if near else f"sample has: {', '.join(SAMPLE_NAMES)}"
        raise SpecProblem(f"{shown}: sample has no '{key}'", fix)


def _follow(
    variable: Variable, value: Any, path: tuple[str | int, ...], place: str, kind: str = "invalid_variable"
) -> Any:
    for step in path:
        try:
            if isinstance(value, Mapping) if isinstance(step, str) else isinstance(value, list):
                value = value[step]
                place += _shown(step)
                continue
        except (KeyError, IndexError):
            pass
        raise Missing(GradeError(kind, f"{{{{ {variable} }}}}: {_absence(place, value, step)}"))
    return value


def _absence(place: str, value: Any, step: str | int) -> str:
    if isinstance(value, Mapping):
        keys = [str(key) for key in list(value)[:_KEYS_SHOWN]]
        more = ", …" if len(value) > _KEYS_SHOWN else ""
        owner = "the row" if place == "item" else place
        return f"{owner} has no key {step!r} (keys: {', '.join(keys) or 'none'}{more})"
    if isinstance(value, list):
        if isinstance(step, int):
            return f"{place} has {counted(len(value), 'item')}, so no [{step}]"
        return f"{place} is a list: name an item as [0], not {step!r}"
    kind = {str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
    return f"{place} is {kind}, which has no {_shown(step).lstrip('.')!r}"


def _shown(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if re.fullmatch(r"[\w-]+", step) else f"[{json.dumps(step, ensure_ascii=False)}]"
