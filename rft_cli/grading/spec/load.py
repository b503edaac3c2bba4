"""A spec file, or the mapping of `grader.spec`, becomes a validated Spec; all problems come in one error.

Each problem names the file, line and column where there are any, and the keys that lead to the value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rft_cli.config.json_marks import read_tree
from rft_cli.config.suggest import did_you_mean
from rft_cli.config.yaml_lines import Mark, Node
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.spec.formula import is_name
from rft_cli.grading.spec.models import MODELS, InputMessage, Multi, SamplingParams, Spec
from rft_cli.grading.spec.problems import SpecProblem

INLINE = "grader.spec"
"""How messages name a spec that stands in a configuration."""
_TYPES = ", ".join(MODELS)
_NO_MARK = Mark(0, 0)
_JOB = ("method", "reinforcement", "grader")
"""Where a fine-tuning job holds its grader."""
Keys = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class ReadSpec:
    """What was read. `spec` is None where there are `problems`; `leaves` are the graders that are no multi and have no
    problem of their own, with the keys that lead to them.
    """

    spec: Spec | None
    problems: list[UsageError]
    leaves: list[tuple[Keys, Spec]]

    def checked(self) -> Spec:
        """The spec; raises UsageErrors with its problems."""
        if self.spec is None:
            raise UsageErrors(self.problems)
        return self.spec


def read_spec(content: bytes, shown: str) -> ReadSpec:
    """Read the bytes of a spec file, or of a fine-tuning job with a grader; `shown` says whether JSON or YAML."""
    problems: list[UsageError] = []
    root = read_tree(content, shown, problems)
    reader = _Reader(shown, problems, marks=True)
    spec = None if root is None else reader.spec(*_grader_of_job(root))
    ordered = sorted(problems, key=lambda problem: _position(problem, shown))
    return ReadSpec(None if problems else spec, ordered, reader.leaves)


def read_inline(mapping: Mapping[str, Any]) -> ReadSpec:
    """Read the mapping of `grader.spec`; problems name keys but no lines."""
    problems: list[UsageError] = []
    reader = _Reader(INLINE, problems, marks=False)
    spec = reader.spec(_as_node(dict(mapping)), ())
    return ReadSpec(None if problems else spec, problems, reader.leaves)


def _grader_of_job(root: Node) -> tuple[Node, Keys]:
    """The grader in a job and its keys; any other file as it is."""
    node = root
    for key in _JOB:
        if not isinstance(node.value, dict) or key not in node.value:
            return root, ()
        node = node.value[key]
    return node, _JOB


def _position(problem: UsageError, shown: str) -> tuple[int, int]:
    place = re.match(r":(\d+):(\d+):", problem.message[len(shown) :])
    return (int(place[1]), int(place[2])) if place else (0, 0)


def _as_node(value: Any) -> Node:
    if isinstance(value, Mapping):
        value = {str(key): _as_node(item) for key, item in value.items()}
    elif isinstance(value, list):
        value = [_as_node(item) for item in value]
    return Node(value, _NO_MARK, _NO_MARK)


class _Reader:
    """Reads one tree. `marks`: its nodes know their places."""

    def __init__(self, shown: str, problems: list[UsageError], *, marks: bool) -> None:
        self.shown = shown
        self.problems = problems
        self.marks = marks
        self.leaves: list[tuple[Keys, Spec]] = []

    def spec(self, node: Node, path: Keys) -> Spec | None:
        """The grader at `path`, or None: then its problems are in the list."""
        if not isinstance(node.value, dict):
            self.add(node.mark, path, "a grader is an object with type, name and more", "see docs/graders.md")
            return None
        kind = self._type(node, path)
        if kind is None:
            return None
        fields = {name: child.plain() for name, child in node.value.items()}
        before = len(self.problems)
        if kind is Multi and isinstance(fields.get("graders"), dict):
            graders = node.value["graders"].value
            assert isinstance(graders, dict)
            for name, child in graders.items():
                self._check_name(name, child.key_mark, (*path, "graders", name))
            # A grader that was refused stays in the map as None: the formula may still name it.
            fields["graders"] = {n: self.spec(g, (*path, "graders", n)) for n, g in graders.items()}
        try:
            spec = kind.model_validate(fields)
        except ValidationError as error:
            for detail in error.errors():
                self._translate(detail, node, path, kind)
            return None
        if len(self.problems) > before:
            return None
        if kind is not Multi:
            self.leaves.append((path, spec))
        return spec

    def _type(self, node: Node, path: Keys) -> type[Spec] | None:
        assert isinstance(node.value, dict)
        if "type" not in node.value:
            wrapped = next((k for k in ("grader", "reinforcement", "method") if k in node.value), None)
            fix = f"'{wrapped}' is part of a job: give the grader object in it" if wrapped else None
            self.add(node.mark, path, "has no 'type'", fix or f"the types are: {_TYPES}")
            return None
        kind = node.value["type"].value
        if not isinstance(kind, str) or kind not in MODELS:
            shown = json.dumps(node.value["type"].plain(), ensure_ascii=False)
            fix = did_you_mean(kind, MODELS) if isinstance(kind, str) else None
            mark = node.value["type"].mark
            self.add(mark, (*path, "type"), f"no such type: {shown[:40]}", fix or f"the types are: {_TYPES}")
            return None
        return MODELS[kind]

    def _check_name(self, name: str, mark: Mark, path: Keys) -> None:
        if not is_name(name):
            fix = "a name has letters, digits and _, begins with no digit, and is no function"
            self.add(mark, path, "calculate_output can't name this grader", fix)

    def _translate(self, detail: ErrorDetails, node: Node, path: Keys, kind: type[Spec]) -> None:
        """One of pydantic's errors, in our words and at its place."""
        loc = detail["loc"]
        at, reached = _find(node, loc)
        name = str(loc[-1]) if loc else ""
        full = (*path, *(part for part in loc if reached or part != name), *(() if reached else (name,)))
        mark = at.key_mark if detail["type"] == "extra_forbidden" else at.mark
        message, fix = _words(detail, kind, at, name)
        self.add(mark, full, message, fix)

    def add(self, mark: Mark, path: Keys, message: str, fix: str | None) -> None:
        place = f"{self.shown}:{mark.line}:{mark.column}" if self.marks else self.shown
        keys = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
        self.problems.append(UsageError(": ".join(part for part in (place, keys, message) if part), fix))


def _find(node: Node, loc: Keys) -> tuple[Node, bool]:
    """The node at `loc`, or the last one on the way to it; and whether it was reached."""
    for step in loc:
        inner: Any = node.value
        try:
            node = inner[step]
        except (KeyError, IndexError, TypeError):
            return node, False
    return node, True


def _fields(kind: type[BaseModel], loc: Keys) -> Iterable[str]:
    """The fields of the model at `loc` inside `kind`."""
    if loc and loc[0] == "sampling_params":
        kind = SamplingParams
    elif loc:
        kind = InputMessage
    return kind.model_fields


def _words(detail: ErrorDetails, kind: type[Spec], at: Node, name: str) -> tuple[str, str | None]:
    error = detail.get("ctx", {}).get("error")
    if isinstance(error, SpecProblem):
        return error.message, error.fix
    sort = detail["type"]
    shown = json.dumps(at.plain(), ensure_ascii=False)
    got = f"(got {shown if len(shown) <= 40 else shown[:37] + '...'})"
    if sort == "missing":
        return "is missing", None
    if sort == "too_short":
        return "is empty", "name at least one"
    if sort == "extra_forbidden":
        known = list(_fields(kind, detail["loc"][:-1]))
        return "unknown field", did_you_mean(name, known) or f"known here: {', '.join(known)}"
    if sort == "literal_error":
        words = [word.strip("'") for word in detail["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        fix = did_you_mean(at.value, words) if isinstance(at.value, str) else None
        return f"must be {detail['ctx']['expected']} {got}", fix
    if sort == "string_type":
        return f"must be text {got}", f'quote it: "{at.word}"' if at.word else None
    text = detail["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"must be {text} {got}", None
