"""A spec file, or the mapping of `grader.spec`, becomes a validated Spec; all problems come in one error.

Each problem names the file, line and column where there are any, and the keys that lead to the value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rft_cli.config.json_tree import read_tree
from rft_cli.config.schema import GraderConfig
from rft_cli.config.suggest import did_you_mean
from rft_cli.config.yaml_tree import Mark, Node
from rft_cli.errors import UsageError, UsageErrors
from rft_cli.grading.spec.formula_words import is_name
from rft_cli.grading.spec.models import MODELS, Multi, Spec
from rft_cli.grading.spec.words import told
from rft_cli.grading.wire.messages import ScorerSource

INLINE = "grader.spec"
"""How messages name a spec that stands in a configuration."""
_TYPES = ", ".join(MODELS)
_NO_MARK = Mark(0, 0)
_JOB = ("method", "reinforcement", "grader")
"""Where a fine-tuning job holds its grader."""
_MAP = (
    'write "graders": {"NAME": {"type": …}, …}, as the API takes it (the type in the openai package, which has one '
    "grader there, is wrong)"
)
Keys = tuple[str | int, ...]


class RawGrader(NamedTuple):
    """A grader that is no multi as it stands in the file, with the keys that lead to it; it may have problems."""

    keys: Keys
    kind: type[Spec]
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReadSpec:
    """What was read. `spec` is None where there are `problems`.

    `raw` are the graders that are no multi and whose type is known; `leaves` those of them that have no problem of
    their own, by the keys that lead to them. `keys` lead to the grader itself, which may stand in a job.
    """

    spec: Spec | None
    problems: list[UsageError]
    raw: list[RawGrader]
    leaves: dict[Keys, Spec]
    keys: Keys = ()

    def checked(self) -> Spec:
        """The spec; raises UsageErrors with its problems."""
        if self.spec is None:
            raise UsageErrors(self.problems)
        return self.spec


def read_grader(config: GraderConfig, source: ScorerSource) -> ReadSpec:
    """Read the spec of these settings; `source` is its file, or the file that an inline spec would be."""
    return read_spec(source.content, source.shown) if config.spec is None else read_inline(config.spec)


def read_spec(content: bytes, shown: str) -> ReadSpec:
    """Read the bytes of a spec file, or of a fine-tuning job with a grader; `shown` says whether JSON or YAML."""
    problems: list[UsageError] = []
    root = read_tree(content, shown, problems)
    reader = _Reader(shown, problems, marks=True)
    node, keys = (None, ()) if root is None else _grader_of_job(root)
    spec = None if node is None else reader.spec(node, keys)
    ordered = sorted(problems, key=lambda problem: _position(problem, shown))
    return ReadSpec(None if problems else spec, ordered, reader.raw, reader.leaves, keys)


def read_inline(mapping: Mapping[str, Any]) -> ReadSpec:
    """Read the mapping of `grader.spec`; problems name keys but no lines."""
    problems: list[UsageError] = []
    reader = _Reader(INLINE, problems, marks=False)
    spec = reader.spec(_as_node(dict(mapping)), ())
    return ReadSpec(None if problems else spec, problems, reader.raw, reader.leaves)


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
        self.raw: list[RawGrader] = []
        self.leaves: dict[Keys, Spec] = {}

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
        if kind is Multi:
            fields["graders"] = self._graders(node, path)
        else:
            self.raw.append(RawGrader(path, kind, fields))
        try:
            spec = kind.model_validate(fields)
        except ValidationError as error:
            for detail in error.errors():
                self._translate(detail, node, path, kind)
            return None
        if len(self.problems) > before:
            return None
        if kind is not Multi:
            self.leaves[path] = spec
        return spec

    def _graders(self, node: Node, path: Keys) -> dict[str, Spec | None] | None:
        """The graders of a multi. One that was refused is there as None: the formula may still name it.

        None where they are no map; that is told here.
        """
        assert isinstance(node.value, dict)
        if "graders" not in node.value:
            self.add(node.mark, (*path, "graders"), "is missing", _MAP)
            return None
        graders, full = node.value["graders"], (*path, "graders")
        if not isinstance(graders.value, dict):
            self.add(graders.mark, full, "must be a map of graders", _MAP)
            return None
        if "type" in graders.value and not isinstance(graders.value["type"].value, dict):
            self.add(graders.mark, full, "is one grader, where a map of graders stands", _MAP)
            self.spec(graders, full)
            return None
        for name, child in graders.value.items():
            self._check_name(name, child.key_mark, (*full, name))
        return {name: self.spec(child, (*full, name)) for name, child in graders.value.items()}

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
        if kind is Multi and loc == ("graders",) and detail["input"] is None:
            return  # told by _graders
        at, reached = _find(node, loc)
        name = str(loc[-1]) if loc else ""
        full = (*path, *(part for part in loc if reached or part != name), *(() if reached else (name,)))
        mark = at.key_mark if detail["type"] == "extra_forbidden" else at.mark
        for message, fix in told(detail, kind, at, name):
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
